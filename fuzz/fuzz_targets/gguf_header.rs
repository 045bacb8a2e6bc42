//! Any bytes: a header is refused, or read within the file's bounds, and then written and read again unchanged.
//! `cargo +nightly fuzz run gguf_header fuzz/corpus/gguf_header tests/data/gguf -- -rss_limit_mb=512`
#![no_main]

use libfuzzer_sys::fuzz_target;
use mixdown::format::Blob;
use mixdown::format::gguf::write::{Entry, Limits, places, write_header};
use mixdown::format::gguf::{Header, read_header, tensors};

fn read(bytes: Vec<u8>) -> Option<Header> {
    read_header(&Blob::Memory { name: "fuzz.gguf", bytes: bytes.into() }).ok()
}

fuzz_target!(|data: &[u8]| {
    let Some(header) = read(data.to_vec()) else { return };
    let keys: usize = header.keys.iter().map(|p| p.key.len() + p.value.raw().len()).sum();
    let names: usize = header.tensors.iter().map(|t| t.name.len()).sum();
    assert!(keys + names <= data.len());
    for pair in &header.keys {
        assert_eq!(pair.value.items().count() as u64, pair.value.count());
    }
    let _ = header.shown();
    for array in tensors::arrays(&header) {
        assert!(array.span.len == 0 || array.span.offset + array.span.len <= data.len() as u64);
    }
    let entry = |t: &mixdown::format::gguf::Info| Entry { name: t.name.clone(), dims: t.dims.to_vec(), kind: t.kind };
    let entries: Vec<Entry> = header.tensors.iter().map(entry).collect();
    // Names with zeros in them are read and not written.
    let Ok(places) = places(&header.keys, &entries, Limits::DIFFUSION) else { return };
    // Empty space between tensors is not kept, and an alignment of gigabytes is no use here.
    if places.total > 1 << 24 {
        return;
    }
    let mut bytes = write_header(&header.keys, &entries, &places);
    assert_eq!(bytes.len() as u64, places.header);
    bytes.resize(places.total as usize, 0);
    let again = read(bytes).expect("what is written is read");
    assert_eq!(again.keys, header.keys);
    assert_eq!(again.tensors.len(), header.tensors.len());
});
