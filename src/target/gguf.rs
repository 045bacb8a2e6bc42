//! GGUF: which type each tensor gets, and what the file says of itself. No files here, and no arithmetic on weights.
pub mod metadata;
pub mod mixtures;
pub mod types;
