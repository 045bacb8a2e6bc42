//! Lists of models as diffusers converts them.
use super::*;

const LISTS: [&str; 5] = [
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/names/flux.txt")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/names/image.txt")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/names/video.txt")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/names/hunyuan_cosmos.txt")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/names/unet.txt")),
];

/// A tensor of the original, and the parts of it, each with its height.
struct Line<'a> {
    original: (&'a str, Vec<u64>),
    parts: Vec<(&'a str, u64)>,
    swapped: bool,
}

fn line(line: &str) -> Line<'_> {
    let (original, parts) = line.split_once(" = ").unwrap();
    let (name, shape) = original.split_once(' ').unwrap();
    let swapped = parts.starts_with('~');
    let parts = parts.trim_start_matches('~').split(' ').map(|part| {
        let (name, rows) = part.split_once(':').unwrap();
        (name, rows.parse().unwrap())
    });
    let shape = shape.split('x').map(|n| n.parse().unwrap()).collect();
    Line { original: (name, shape), parts: parts.collect(), swapped }
}

fn check(family: &str, lines: &[Line]) {
    let original: Vec<_> = lines.iter().map(|line| (line.original.0.to_owned(), line.original.1.clone())).collect();
    let mut diffusers = Vec::new();
    let (mut joined, mut divided) = (Vec::new(), Vec::new());
    for (i, Line { original: (name, shape), parts, swapped }) in lines.iter().enumerate() {
        let mut pieces = Vec::new();
        let mut at = 0;
        for (part, rows) in parts {
            let order = if *swapped { vec![rows / 2..*rows, 0..rows / 2] } else { std::iter::once(0..*rows).collect() };
            pieces.extend(order.iter().map(|rows| Piece { source: diffusers.len(), rows: rows.clone() }));
            let of = order.iter().map(|rows| Piece { source: i, rows: at + rows.start..at + rows.end });
            divided.push(Renamed { name: (*part).to_owned(), pieces: of.collect() });
            let mut shape = shape.clone();
            shape[0] = *rows;
            diffusers.push(((*part).to_owned(), shape));
            at += rows;
        }
        joined.push(Renamed { name: (*name).to_owned(), pieces });
    }
    let expected = |tensors| Ok(Mapped { family: family_name(family), prefix: "", tensors, unknown: Vec::new() });
    assert_eq!(to_original(&borrowed(&diffusers)), expected(joined), "{family}");
    assert_eq!(to_diffusers(&borrowed(&original)), expected(divided), "{family}");
}

fn family_name(name: &str) -> &'static str {
    FAMILIES.iter().find(|family| family.name == name).unwrap().name
}

#[test]
fn as_diffusers_converts_them() {
    let mut families = 0;
    for list in LISTS {
        for model in list.split("\n[").skip(1) {
            let (family, lines) = model.split_once("]\n").unwrap();
            let lines: Vec<Line> = lines.lines().map(line).collect();
            check(family, &lines);
            families += 1;
        }
    }
    assert_eq!(families, 15);
}
