//! A sandbox per test, models made on the spot, and the program run as a person would.
#[cfg(unix)]
pub mod terminal;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A folder of its own, gone at the end; the program run in it knows no other home.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, bytes).expect("a file");
        path
    }
    /// Names in the sandbox, or in a folder of it, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(name))
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixdown"));
        command
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env_remove("HF_HUB_CACHE")
            .env_remove("HF_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("NO_COLOR");
        command
    }
    /// Runs the program with words separated by spaces.
    pub fn run(&self, words: &str) -> Run {
        self.run_args(words.split_whitespace())
    }
    pub fn run_args(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        Run(self.command().args(args).output().expect("the program starts"))
    }
    /// Runs it and reads the JSON it prints; it must succeed.
    pub fn json(&self, words: &str) -> Value {
        let run = self.run(words);
        assert_eq!(run.code(), 0, "{words}: {}", run.stderr());
        serde_json::from_slice(&run.0.stdout).unwrap_or_else(|e| panic!("{words}: {e}"))
    }
}

/// What came of a run.
pub struct Run(pub Output);

impl Run {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
    /// It failed with one line of error that holds each of `parts`.
    pub fn fails(&self, code: i32, parts: &[&str]) {
        let stderr = self.stderr();
        let errors: Vec<&str> = stderr.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(self.code(), code, "{stderr}");
        assert_eq!(errors.len(), 1, "one line of error: {stderr}");
        for part in parts {
            assert!(errors[0].contains(part), "`{part}` in: {}", errors[0]);
        }
    }
}

/// An array of a model that is made on the spot.
pub struct Array {
    pub name: &'static str,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Reproducible values, about normal, of standard deviation 0.02 as trained weights have.
pub fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (uniform() + uniform() + uniform()) * 0.04).collect()
}

pub fn f32s(name: &'static str, shape: &[usize], values: &[f32]) -> Array {
    Array { name, dtype: "F32", shape: shape.to_vec(), bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
}

/// The bytes of a safetensors file.
pub fn safetensors(arrays: &[Array]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0;
    for a in arrays {
        header.insert(
            a.name.into(),
            json!({"dtype": a.dtype, "shape": a.shape, "data_offsets": [at, at + a.bytes.len()]}),
        );
        at += a.bytes.len();
    }
    let data: Vec<u8> = arrays.iter().flat_map(|a| a.bytes.clone()).collect();
    with_header(&Value::Object(header).to_string(), &data)
}

pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Two small blocks, an embedding, a norm, an integer: one of everything.
pub fn example() -> Vec<u8> {
    safetensors(&[
        f32s("blocks.0.attn.to_q.weight", &[128, 256], &values(1, 128 * 256)),
        f32s("blocks.0.attn.to_q.bias", &[128], &values(2, 128)),
        f32s("blocks.0.ff.weight", &[256, 128], &values(3, 256 * 128)),
        f32s("blocks.1.attn.to_q.weight", &[128, 256], &values(4, 128 * 256)),
        f32s("blocks.1.ff.weight", &[256, 128], &values(5, 256 * 128)),
        f32s("embed_tokens.weight", &[64, 256], &values(6, 64 * 256)),
        f32s("norm.weight", &[256], &[1.0; 256]),
        Array { name: "steps", dtype: "I64", shape: vec![1], bytes: vec![7, 0, 0, 0, 0, 0, 0, 0] },
    ])
}

/// The arrays of a file, as the safetensors library reads them: dtype, shape, bytes.
pub fn read(path: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).expect("the file is there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("the library reads it");
    file.iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype().to_string(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}
