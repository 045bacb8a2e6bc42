//! Arithmetic on slices of `f32`: no files, no threads of its own making, no knowledge of any consumer.
