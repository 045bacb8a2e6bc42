//! Bad input and bad luck: one line of error, exit 1, nothing written.
use crate::support::{Array, Sandbox, example, f32s, safetensors, values, with_header};

/// Opening a file of those bytes fails with that, and so does converting it; nothing is written.
fn refused(bytes: &[u8], parts: &[&str]) {
    let s = Sandbox::new();
    s.write("m.safetensors", bytes);
    s.run("inspect m.safetensors").fails(1, parts);
    s.run("convert m.safetensors -o out.safetensors").fails(1, parts);
    s.run("convert m.safetensors -o out").fails(1, parts);
    assert_eq!(s.list("."), ["m.safetensors"]);
}

#[test]
fn a_truncated_file_is_refused() {
    let whole = example();
    refused(&whole[..whole.len() - 100], &["m.safetensors", "cut short", "100 bytes are missing"]);
    refused(&whole[..100], &["m.safetensors", "cut short"]);
    refused(&whole[..5], &["m.safetensors", "too few"]);
    refused(b"", &["m.safetensors", "too few"]);
}

#[test]
fn a_header_length_of_2_to_the_63_is_refused() {
    refused(&(1u64 << 63).to_le_bytes(), &["header length 9223372036854775808", "offset 0"]);
}

#[test]
fn tensors_that_overlap_are_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    refused(&with_header(header, &[0; 12]), &["`b`", "overlaps"]);
}

#[test]
fn a_tensor_named_twice_is_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    refused(&with_header(header, &[0; 8]), &["`a`", "named twice"]);
}

#[test]
fn a_value_that_is_not_a_number_stops_a_conversion() {
    for (options, poison) in [("", f32::NAN), ("--svd-rank 4", f32::INFINITY), ("--group-size -2", f32::NAN)] {
        let s = Sandbox::new();
        let mut w = values(1, 256 * 256);
        w[300] = poison;
        s.write("m.safetensors", safetensors(&[f32s("a.weight", &[256, 256], &w)]));
        let run = s.run(&format!("convert m.safetensors --dtype uint4 {options} -o out.safetensors"));
        run.fails(1, &["`a.weight`", "[1, 44]"]);
        s.run(&format!("trial m.safetensors --dtype uint4 {options}")).fails(1, &["`a.weight`"]);
        assert_eq!(s.list("."), ["m.safetensors"]);
        s.run("convert m.safetensors --exclude a -o out.safetensors");
        assert_eq!(s.list("."), ["m.safetensors", "out.safetensors"]);
    }
}

#[test]
fn an_index_that_leaves_its_folder_is_refused() {
    for file in ["../x.safetensors", "/etc/passwd", "a/../../x.safetensors"] {
        let s = Sandbox::new();
        s.write("x.safetensors", example());
        s.write("model/model.safetensors.index.json", format!(r#"{{"weight_map":{{"a":"{file}"}}}}"#));
        s.run("inspect model").fails(1, &["outside the model's folder", file]);
        s.run("convert model -o out").fails(1, &["outside the model's folder"]);
        assert_eq!(s.list("."), ["model", "x.safetensors"]);
    }
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let s = Sandbox::new();
    s.write("m/a.safetensors", safetensors(&[f32s("a", &[1], &[1.0])]));
    let index = |map: &str| s.write("m/model.safetensors.index.json", format!(r#"{{"weight_map":{map}}}"#));
    index(r#"{"b":"a.safetensors"}"#);
    s.run("inspect m").fails(1, &["`b`", "a.safetensors"]);
    index(r#"{"a":"missing.safetensors"}"#);
    s.run("inspect m").fails(1, &["missing.safetensors"]);
    index("[]");
    s.run("inspect m").fails(1, &["model.safetensors.index.json"]);
    s.write("m/b.safetensors", safetensors(&[f32s("a", &[1], &[1.0]), f32s("b", &[1], &[1.0])]));
    index(r#"{"a":"a.safetensors","b":"b.safetensors"}"#);
    s.run("inspect m").fails(1, &["`a`", "one file only"]);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let locked = s.path("locked");
    std::fs::create_dir(&locked).expect("a folder");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).expect("locked");
    // Root may write anywhere; a folder that does not exist, and a file in a folder's place, hold for everybody.
    if std::fs::write(locked.join("probe"), "").is_err() {
        s.run("convert m.safetensors -o locked/out.safetensors").fails(1, &["locked"]);
    }
    // Not even root can make files there.
    if cfg!(target_os = "linux") {
        s.run("convert m.safetensors -o /proc/out.safetensors").fails(1, &["/proc"]);
        s.run("convert m.safetensors -o /proc/out").fails(1, &["/proc"]);
    }
    s.run("convert m.safetensors -o nowhere/out.safetensors").fails(1, &["nowhere", "does not exist"]);
    s.run("convert m.safetensors -o m.safetensors/out.safetensors").fails(1, &["m.safetensors"]);
}

#[test]
fn nothing_is_overwritten_unasked() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    s.write("out.safetensors", "mine");
    s.run("convert m.safetensors -o out.safetensors").fails(1, &["out.safetensors", "--force"]);
    assert_eq!(std::fs::read(s.path("out.safetensors")).expect("there"), b"mine");
    assert_eq!(s.run("convert m.safetensors -o out.safetensors --force").code(), 0);
    s.write("dir/mine.txt", "mine");
    s.run("convert m.safetensors -o dir").fails(1, &["dir", "--force"]);
    assert_eq!(s.list("dir"), ["mine.txt"]);
}

#[test]
fn the_source_is_never_the_output() {
    let s = Sandbox::new();
    let before = example();
    s.write("model/model.safetensors", &before);
    s.write("model/config.json", "{}");
    std::fs::hard_link(s.path("model/model.safetensors"), s.path("same.safetensors")).expect("a link");
    for (model, out) in [
        ("model/model.safetensors", "model/model.safetensors"),
        ("model/model.safetensors", "same.safetensors"),
        ("model", "model"),
        ("model", "./model/../model"),
        ("model/model.safetensors", "model"),
    ] {
        s.run(&format!("convert {model} -o {out} --force")).fails(1, &["is the model that is being read"]);
    }
    assert_eq!(std::fs::read(s.path("model/model.safetensors")).expect("there"), before);
}

#[test]
fn names_from_files_reach_no_terminal() {
    let s = Sandbox::new();
    let evil = Array { name: "a\x1b]0;owned\x07.weight", dtype: "F32", shape: vec![1], bytes: vec![0; 4] };
    s.write("m.safetensors", safetensors(&[evil]));
    for words in ["inspect m.safetensors", "plan m.safetensors", "convert m.safetensors --tensor-type x=int9 -o o"] {
        let run = s.run(words);
        assert!(!run.stdout().contains('\x1b') && !run.stderr().contains('\x1b'), "{words}");
    }
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let s = Sandbox::new();
    let w = values(1, 256 * 256);
    s.write("m.safetensors", safetensors(&[f32s("a.weight", &[256, 256], &w), f32s("a.scale", &[1], &[1.0])]));
    s.run("convert m.safetensors -o out.safetensors").fails(1, &["`a.scale`", "exclude"]);
}

#[test]
fn a_memory_that_is_too_small_is_said() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    s.run("convert m.safetensors --memory 1KB -o out.safetensors").fails(1, &["--memory", "needed"]);
    assert_eq!(s.list("."), ["m.safetensors"]);
}

/// Ctrl-C, and a polite kill, in the middle of a conversion.
#[cfg(unix)]
#[test]
fn an_interrupted_conversion_leaves_nothing() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        for out in ["out.safetensors", "out"] {
            let s = Sandbox::new();
            // Large enough that it is still under way when the signal comes: a rank-256 search of 4 × 4M weights.
            let names = ["a.weight", "b.weight", "c.weight", "d.weight"];
            let arrays: Vec<Array> = names.iter().map(|n| f32s(n, &[2048, 2048], &values(9, 1 << 22))).collect();
            s.write("m.safetensors", safetensors(&arrays));
            let mut child = s
                .command()
                .args([
                    "convert",
                    "m.safetensors",
                    "--dtype",
                    "uint4",
                    "--svd-rank",
                    "512",
                    "--threads",
                    "1",
                    "-o",
                    out,
                ])
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("it starts");
            let started = std::time::Instant::now();
            while s.list(".").len() < 2 && started.elapsed().as_secs() < 30 {
                std::thread::yield_now();
            }
            assert!(s.list(".").iter().any(|n| n.ends_with(".partial")), "it has begun: {:?}", s.list("."));
            let killed =
                std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
            assert!(killed.expect("kill runs").success());
            assert_eq!(child.wait().expect("it ends").code(), Some(code));
            assert_eq!(s.list("."), ["m.safetensors"]);
        }
    }
}

#[test]
fn a_side_file_never_replaces_the_model_or_the_output() {
    let s = Sandbox::new();
    let before = example();
    s.write("m.safetensors", &before);
    s.run("convert m.safetensors -o o.safetensors --loss-report m.safetensors").fails(1, &["--loss-report"]);
    s.run("convert m.safetensors -o o.safetensors --loss-report o.safetensors").fails(1, &["is the output"]);
    s.run("convert m.safetensors -o o.safetensors --loss-report none/x.json").fails(1, &["none"]);
    s.run("trial m.safetensors --csv m.safetensors").fails(1, &["--csv"]);
    s.run("plan m.safetensors --save-profile m.safetensors").fails(1, &["--save-profile"]);
    assert_eq!(std::fs::read(s.path("m.safetensors")).expect("there"), before);
    assert_eq!(s.list("."), ["m.safetensors"]);
}

#[test]
fn a_folder_that_holds_no_model_is_never_replaced() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    s.write("photos/cat.png", "mine");
    s.run("convert m.safetensors -o photos --force").fails(1, &["photos", "holds no model"]);
    s.run("convert m.safetensors -o photos.safetensors/x.safetensors").fails(1, &["photos.safetensors"]);
    std::fs::create_dir(s.path("dir.safetensors")).expect("a folder");
    s.run("convert m.safetensors -o dir.safetensors").fails(1, &["is a folder"]);
    assert_eq!(s.list("photos"), ["cat.png"]);
}

#[test]
fn a_value_too_large_for_the_output_is_refused() {
    let s = Sandbox::new();
    let mut w = values(1, 256 * 256);
    w[513] = 1e5;
    s.write("m.safetensors", safetensors(&[f32s("a.weight", &[256, 256], &w)]));
    s.run("convert m.safetensors --to float --dtype f16 -o o.safetensors")
        .fails(1, &["`a.weight`", "[2, 1]", "100000"]);
    assert_eq!(s.run("convert m.safetensors --to float --dtype bf16 -o o.safetensors").code(), 0);
}

#[test]
fn what_others_quantized_is_not_taken_for_weights() {
    let s = Sandbox::new();
    s.write("m/model.safetensors", example());
    s.write("m/config.json", r#"{"quantization_config": {"quant_method": "gptq"}}"#);
    s.run("convert m -o out").fails(1, &["`gptq`"]);
    assert_eq!(s.run("inspect m").code(), 0, "it can be looked at");
    let fp8 = Array { name: "a.weight", dtype: "F8_E4M3", shape: vec![128, 128], bytes: vec![0x38; 128 * 128] };
    s.write("fp8.safetensors", safetensors(&[f32s("a.weight_scale", &[7], &[0.5; 7]), fp8]));
    s.run("convert fp8.safetensors --to float -o out.safetensors")
        .fails(1, &["layer `a`", "`a.weight_scale` has the shape [7]"]);
    assert_eq!(s.list("."), ["fp8.safetensors", "m"]);
}

#[test]
fn metadata_that_lies_is_no_way_in() {
    let lies = [
        r#"{"target":"sdnq","weights_dtype":"uint4","group_size":64,"original_shape":[1,2],"original_dtype":"F32"}"#,
        r#"{"target":"sdnq","weights_dtype":"uint4","group_size":0,"original_shape":[128,256],"original_dtype":"F32"}"#,
        r#"{"target":"sdnq","weights_dtype":"uint4","group_size":64,"svd_rank":4000000000,"original_shape":[128,256],"original_dtype":"F32"}"#,
        r#"{"target":"sdnq","weights_dtype":"uint4","group_size":64,"original_shape":[18446744073709551615,18446744073709551615],"original_dtype":"F32"}"#,
        r#"{"target":"sdnq"}"#,
    ];
    for lie in lies {
        let s = Sandbox::new();
        let packed = Array { name: "a.weight", dtype: "U8", shape: vec![128 * 128], bytes: vec![0; 128 * 128] };
        let told = Array { name: "a.weight_metadata", dtype: "U8", shape: vec![lie.len()], bytes: lie.into() };
        s.write("m.safetensors", safetensors(&[f32s("a.scale", &[128, 4, 1], &[1.0; 512]), packed, told]));
        s.run("convert m.safetensors --to float -o out.safetensors").fails(1, &["`a`", "metadata"]);
        assert_eq!(s.list("."), ["m.safetensors"]);
    }
}

#[test]
fn a_tensor_that_only_looks_like_a_description_survives() {
    let s = Sandbox::new();
    let other = f32s("a.weight_metadata", &[2], &[1.0, 2.0]);
    s.write("m.safetensors", safetensors(&[f32s("b.weight", &[128, 128], &values(1, 128 * 128)), other]));
    assert_eq!(s.run("convert m.safetensors -o out.safetensors").code(), 0);
    assert!(crate::support::read(&s.path("out.safetensors")).contains_key("a.weight_metadata"));
    let clash = [f32s("a.weight", &[128, 128], &values(1, 128 * 128)), f32s("a.weight_metadata", &[1], &[1.0])];
    s.write("c.safetensors", safetensors(&clash));
    s.run("convert c.safetensors -o x.safetensors").fails(1, &["`a.weight_metadata`"]);
}

#[cfg(unix)]
#[test]
fn special_files_and_links_that_leave_are_not_followed() {
    use std::os::unix::fs::symlink;
    let s = Sandbox::new();
    s.write("m/model.safetensors", example());
    s.write("secret.txt", "mine");
    symlink(s.path("secret.txt"), s.path("m/notes.txt")).expect("a link");
    symlink("nowhere", s.path("m/gone.txt")).expect("a link");
    let run = s.run("convert m -o out");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(run.stderr().contains("notes.txt") && run.stderr().contains("gone.txt"), "{}", run.stderr());
    assert!(!s.path("out/notes.txt").exists());
    symlink("/dev/zero", s.path("m/config.json")).expect("a link");
    s.run("inspect m").fails(1, &["config.json", "not a regular file"]);
    s.run("inspect /dev/zero").fails(1, &["/dev/zero"]);
}
