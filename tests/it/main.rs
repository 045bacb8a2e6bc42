//! One integration crate: the program and the library as their users meet them.
mod cli;
mod comfy;
mod convert;
mod dynamic;
mod faults;
mod gguf;
mod gguf_hf;
mod gguf_write;
mod keys;
mod metadata;
mod pty;
mod screen;
mod support;
mod tidy;
mod validate;
