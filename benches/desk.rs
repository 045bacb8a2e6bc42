//! What a person waits for at the desk, at 200,000 tensors: opening, planning, the tree, a frame, a key.
//!
//! `cargo bench --bench desk`
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mixdown::core::rules::Pattern;
use mixdown::core::tree::Tree;
use mixdown::core::{Family, Model, Settings};
use mixdown::engine::Limits;
use mixdown::format::{OpenOptions, Opened};
use mixdown::session::{Profile, Session};
use mixdown::target;
use mixdown::tui::Live;
use mixdown::tui::testing::Driver;
use mixdown::tui::theme::Look;
use mixdown::tui::theme::depth::Depth;
use mixdown::tui::theme::glyphs::Glyphs;
use mixdown::tui::theme::palette::Theme;

fn main() {
    divan::main();
}

/// A file of 200,000 tensors whose data is a hole: 10,000 blocks of ten layers with a bias each.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let layers = [
            "attn.to_q",
            "attn.to_k",
            "attn.to_v",
            "attn.to_out.0",
            "ff.net.0.proj",
            "ff.net.2",
            "norm1",
            "norm2",
            "norm3.linear",
            "attn.add_q_proj",
        ];
        let mut entries = Vec::new();
        let mut at = 0;
        for block in 0..10_000 {
            for layer in layers {
                for (suffix, shape) in [("weight", vec![128, 128]), ("bias", vec![128])] {
                    let len = shape.iter().product::<u64>() * 2;
                    entries.push(mixdown::format::safetensors::Entry {
                        name: format!("transformer_blocks.{block}.{layer}.{suffix}"),
                        storage: mixdown::core::Storage::BF16,
                        shape,
                        offset: at,
                        len,
                    });
                    at += len;
                }
            }
        }
        let header = mixdown::format::safetensors::write_header(&[], &entries);
        let path = std::env::temp_dir().join(format!("mixdown-bench-{}.safetensors", std::process::id()));
        let file = std::fs::File::create(&path).expect("a temporary file");
        std::io::Write::write_all(&mut &file, &header).expect("written");
        file.set_len(header.len() as u64 + at).expect("a hole");
        path
    })
}

fn opened() -> Opened {
    target::open(&file().display().to_string(), &OpenOptions::default()).expect("it opens")
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| (*opened().model).clone())
}

#[divan::bench(sample_count = 5)]
fn open() -> Opened {
    file();
    opened()
}

#[divan::bench(sample_count = 10)]
fn tree() -> Tree {
    Tree::new(model())
}

#[divan::bench(sample_count = 10)]
fn unfold_everything(bencher: divan::Bencher) {
    bencher.with_inputs(|| Tree::new(model())).bench_local_values(|mut tree| {
        tree.set_all_open(None, true);
        tree
    });
}

#[divan::bench(sample_count = 10)]
fn filter(bencher: divan::Bencher) {
    let pattern = Pattern::new("ff").expect("a pattern");
    bencher.with_inputs(|| Tree::new(model())).bench_local_values(|mut tree| {
        tree.filter(Some(&|id| pattern.hits(&[&model().tensor(id).name])));
        tree
    });
}

#[divan::bench(sample_count = 10)]
fn plan() -> mixdown::core::Plan {
    let mut settings = Settings::new(Family::Sdnq);
    settings.exclude = ["norm", "proj_out"].iter().filter_map(|p| Pattern::new(p).ok()).collect();
    target::plan(model(), &settings).expect("a plan")
}

/// A desk over the whole model, everything unfolded.
fn desk() -> Driver {
    let opened = Arc::new(opened());
    let session = Session::new(Arc::clone(&opened.model), Profile::new(Settings::new(Family::Sdnq)));
    let live = Live::new(opened, Limits::default(), session.settings().clone(), || ()).expect("workers");
    let mut driver = Driver::new(session, Box::new(live), (200, 60)).expect("a desk");
    driver.keys("= G g g");
    driver
}

/// One key and the frame that follows it.
fn press(bencher: divan::Bencher, keys: &'static str) {
    let mut driver = desk();
    bencher.bench_local(|| {
        driver.keys(keys);
    });
}

#[divan::bench(sample_count = 20)]
fn frame(bencher: divan::Bencher) {
    let mut driver = desk();
    bencher.bench_local(|| {
        driver.draw();
    });
}

/// What a theme and ASCII cost a frame of 200×60 cells.
#[divan::bench]
fn look(bencher: divan::Bencher) {
    let frame = desk().draw().clone();
    let look = Look::new(Theme::Light, Glyphs::Ascii, Depth::Sixteen);
    bencher.with_inputs(|| frame.clone()).bench_local_refs(|frame| look.apply(frame));
}

#[divan::bench(sample_count = 20)]
fn key_down(bencher: divan::Bencher) {
    press(bencher, "j");
}

/// A change and the frame that follows it at once; its plan is made aside.
#[divan::bench(sample_count = 10)]
fn key_exclude(bencher: divan::Bencher) {
    let mut driver = desk();
    bencher.bench_local(|| {
        driver.press("x");
        driver.draw();
    });
}

/// A change until its plan is on the screen.
#[divan::bench(sample_count = 10)]
fn exclude_is_planned(bencher: divan::Bencher) {
    press(bencher, "x");
}

#[divan::bench(sample_count = 10)]
fn key_filter_and_drop(bencher: divan::Bencher) {
    press(bencher, "/ q Esc");
}
