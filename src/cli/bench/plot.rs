//! Loss against size, as SVG.
use std::fmt::Write;

use crate::core::units;

/// One of several.
pub struct Point<'a> {
    pub name: &'a str,
    pub bytes: u64,
    /// Relative; what loses nothing stands at the lower edge.
    pub loss: f64,
}

const SIZE: (f64, f64) = (800.0, 500.0);
/// Around the field: left, right, above, below.
const MARGIN: (f64, f64, f64, f64) = (90.0, 90.0, 50.0, 60.0);

/// Sizes run to the right, losses up by powers of ten.
pub fn svg(title: &str, points: &[Point]) -> String {
    let (width, height) = SIZE;
    let (left, right, above, below) = MARGIN;
    let bytes = points.iter().map(|p| p.bytes as f64);
    let most = bytes.clone().fold(0.0, f64::max);
    let least = bytes.fold(most, f64::min);
    let room = ((most - least) * 0.08).max(most * 0.02).max(1.0);
    let (from, to) = ((least - room).max(0.0), most + room);
    let logs = points.iter().filter(|p| p.loss > 0.0).map(|p| p.loss.log10());
    let (low, high) = (logs.clone().fold(f64::INFINITY, f64::min), logs.fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if low.is_finite() { (low.floor(), high.ceil().max(low.floor() + 1.0)) } else { (-4.0, 0.0) };
    let x = |bytes: f64| left + (bytes - from) / (to - from) * (width - left - right);
    let y = |log: f64| height - below - (log.max(low) - low) / (high - low) * (height - above - below);

    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"16\">{}</text>",
        escaped(title)
    );
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64, colour: &str| {
        let _ =
            writeln!(out, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>");
    };
    let decades: Vec<f64> = (low as i32..=high as i32).map(f64::from).collect();
    for decade in &decades {
        line(left, y(*decade), width - right, y(*decade), "#dddddd");
    }
    line(left, height - below, width - right, height - below, "#444444");
    line(left, above, left, height - below, "#444444");
    let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(words));
    };
    for decade in &decades {
        text(left - 8.0, y(*decade) + 4.0, "end", &units::percent(10f64.powf(*decade)));
    }
    for step in 0..=4 {
        let bytes = from + (to - from) * f64::from(step) / 4.0;
        text(x(bytes), height - below + 20.0, "middle", &units::size(bytes as u64));
    }
    text((left + width - right) / 2.0, height - 14.0, "middle", "size of the file");
    text(left - 60.0, above - 12.0, "start", "relative error");
    for p in points {
        let log = if p.loss > 0.0 { p.loss.log10() } else { low };
        text(x(p.bytes as f64) + 8.0, y(log) - 6.0, "start", p.name);
    }
    for p in points {
        let log = if p.loss > 0.0 { p.loss.log10() } else { low };
        let _ =
            writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#1f6fb4\"/>", x(p.bytes as f64), y(log));
    }
    out.push_str("</svg>\n");
    out
}

/// Text as XML holds it; control characters, which it cannot hold, are left out.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_in_the_field() {
        let points = [
            Point { name: "Q4_0", bytes: 1000, loss: 4e-3 },
            Point { name: "Q8_0", bytes: 2000, loss: 1e-5 },
            Point { name: "<F32>", bytes: 8000, loss: 0.0 },
        ];
        let svg = svg("a & b", &points);
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;F32&gt;"), "{svg}");
        let figures = |key: &str| -> Vec<f64> {
            svg.lines()
                .filter(|l| l.starts_with("<circle"))
                .map(|l| l.split(key).nth(1).and_then(|r| r.split('"').next()).expect(key).parse().expect("a number"))
                .collect()
        };
        let (xs, ys) = (figures("cx=\""), figures("cy=\""));
        assert_eq!(xs.len(), 3);
        assert!(xs.is_sorted() && xs.iter().all(|x| (MARGIN.0..=SIZE.0 - MARGIN.1).contains(x)), "{xs:?}");
        // Less loss lies lower, which is a larger y.
        assert!(ys.is_sorted() && ys.iter().all(|y| (MARGIN.2..=SIZE.1 - MARGIN.3).contains(y)), "{ys:?}");
    }

    #[test]
    fn one_point_and_none_are_drawn_too() {
        for points in [&[][..], &[Point { name: "x", bytes: 0, loss: 0.0 }]] {
            let svg = svg("t", points);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
