//! One integration crate: the program and the library as their users meet them.
mod cli;
mod convert;
mod faults;
mod support;
mod tidy;
