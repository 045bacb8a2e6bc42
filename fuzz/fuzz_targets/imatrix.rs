//! Any bytes: no importance matrix, or one that holds no more than the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mixdown::format::{Blob, imatrix};

fuzz_target!(|data: &[u8]| {
    let blob = Blob::Memory { name: "fuzz.imatrix", bytes: data.to_vec().into() };
    if let Ok(read) = imatrix::read(&blob) {
        let values: usize = read.entries.values().map(|e| e.values.len()).sum();
        assert!(values * 4 <= data.len());
    }
});
