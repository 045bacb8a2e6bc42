//! Nunchaku: SVDQuant weights of 4 bits for its kernels, with a low-rank branch of 16 bits beside them.
pub mod layout;
pub mod metadata;
pub mod table;
pub mod validate;
