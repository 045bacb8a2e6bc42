//! `mixdown metadata`: a file's header is read, repaired and cut, and its tensors are the same bytes after.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Sandbox, example, read, with_header};

/// A file with one W4A4 layer of 128 × 128 as Nunchaku's, in a block of each kind, and that metadata.
fn nunchaku(metadata: Option<Value>, fp4: bool) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    if let Some(metadata) = metadata {
        header.insert("__metadata__".into(), metadata);
    }
    let mut at = 0;
    let (groups, scales, each) = if fp4 { (8, "F8_E4M3", 1) } else { (2, "BF16", 2) };
    for block in ["transformer_blocks.0", "single_transformer_blocks.0"] {
        for (part, dtype, shape, bytes) in [
            ("qweight", "I8", [128, 64], 128 * 64),
            ("wscales", scales, [groups, 128], groups * 128 * each),
            ("lora_down", "BF16", [128, 16], 128 * 16 * 2),
            ("lora_up", "BF16", [128, 16], 128 * 16 * 2),
        ] {
            let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]});
            header.insert(format!("{block}.qkv_proj.{part}"), entry);
            at += bytes;
        }
    }
    let data: Vec<u8> = (0..at).map(|i| (i % 251) as u8).collect();
    with_header(&Value::Object(header).to_string(), &data)
}

fn config() -> Value {
    json!({"_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 1, "guidance_embeds": true})
}

/// Header metadata as it stands in the file.
fn metadata(s: &Sandbox, file: &str) -> BTreeMap<String, String> {
    let bytes = std::fs::read(s.path(file)).expect("there");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("whole");
    header.metadata().clone().unwrap_or_default().into_iter().collect()
}

#[test]
fn a_nunchaku_file_without_metadata_gets_all_of_it() {
    let s = Sandbox::new();
    s.write("m.safetensors", nunchaku(None, false));
    s.write("flux/transformer/config.json", config().to_string());
    let before = read(&s.path("m.safetensors"));
    let run = s.run("metadata add m.safetensors --from flux");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert_eq!(
        run.stdout(),
        "added config\nadded quantization_config\nadded model_class\nadded comfy_config\n",
        "what was done is told"
    );
    assert_eq!(read(&s.path("m.safetensors")), before, "tensors are copied untouched");
    let now = metadata(&s, "m.safetensors");
    assert_eq!(now["config"], config().to_string());
    assert_eq!(now["model_class"], "NunchakuFluxTransformer2dModel");
    let shown = s.json("metadata show m.safetensors");
    assert_eq!(shown["quantization_config"]["rank"], 16);
    assert_eq!(shown["quantization_config"]["weight"], json!({"dtype": "int4", "scale_dtype": null, "group_size": 64}));
    assert_eq!(shown["comfy_config"]["model_class"], "Flux");
    assert_eq!(shown["comfy_config"]["model_config"]["depth_single_blocks"], 1);
    assert_eq!(s.list("."), ["flux", "m.safetensors"], "nothing is left beside it");
    assert_eq!(s.run("metadata add m.safetensors --from flux").stdout(), "nothing to change\n");
}

#[test]
fn the_config_comes_from_a_yaml_an_id_or_another_file() {
    let s = Sandbox::new();
    let snapshot = ".cache/huggingface/hub/models--black-forest-labs--FLUX.1-dev";
    s.write(&format!("{snapshot}/refs/main"), "abc");
    s.write(&format!("{snapshot}/snapshots/abc/transformer/config.json"), config().to_string());
    s.write("flux.yaml", "pipeline:\n  name: flux.1-dev\n  dtype: torch.bfloat16\n");
    s.write("donor.safetensors", nunchaku(None, true));
    assert_eq!(s.run("metadata add donor.safetensors --model-path black-forest-labs/FLUX.1-dev").code(), 0);
    assert_eq!(s.json("metadata show donor.safetensors")["quantization_config"]["weight"]["group_size"], 16);
    for from in ["--config-yaml flux.yaml", "--model-path FLUX.1-dev", "--from flux.1-dev", "--from donor.safetensors"]
    {
        s.write("m.safetensors", nunchaku(Some(json!({"kept": "1", "config": "{}"})), false));
        let run = s.run(&format!("metadata add m.safetensors {from} --extra-metadata -v"));
        assert_eq!(run.code(), 0, "{from}: {}", run.stderr());
        assert!(run.stdout().contains("replaced config\nadded quantization_config\n"), "{}", run.stdout());
        let now = metadata(&s, "m.safetensors");
        assert_eq!((now["config"].as_str(), now["kept"].as_str()), (config().to_string().as_str(), "1"), "{from}");
        assert_eq!(now["model_type"], "FluxTransformer2DModel", "{from}");
        // It is int4, whatever the other file is.
        assert!(now["quantization_config"].contains(r#""group_size":64"#), "{from}");
        if !from.contains("donor") {
            for step in ["is short for black-forest-labs/FLUX.1-dev", "cache: ", "refs/main → snapshot abc", "config: "]
            {
                assert!(run.stderr().contains(step), "{from}: `{step}` in {}", run.stderr());
            }
        }
    }
}

#[test]
fn any_safetensors_file_takes_anothers_metadata() {
    let s = Sandbox::new();
    s.write("plain.safetensors", example());
    let entry = json!({"dtype": "U8", "shape": [1], "data_offsets": [0, 1]});
    let other = json!({"__metadata__": {"author": "me", "tags": "[1]"}, "a": entry});
    s.write("other.safetensors", with_header(&other.to_string(), b"x"));
    let before = read(&s.path("plain.safetensors"));
    assert_eq!(s.run("metadata add plain.safetensors --from other.safetensors").stdout(), "added author\nadded tags\n");
    assert_eq!(s.json("metadata show plain.safetensors"), json!({"format": "pt", "author": "me", "tags": [1]}));
    let run = s.run("metadata remove plain.safetensors author format");
    assert_eq!(run.stdout(), "removed format\nremoved author\n");
    assert_eq!(s.json("metadata show plain.safetensors"), json!({"tags": [1]}));
    assert_eq!(s.run("metadata remove plain.safetensors tags").code(), 0);
    assert_eq!(s.json("metadata show plain.safetensors"), json!({}));
    assert_eq!(read(&s.path("plain.safetensors")), before);
}

#[test]
fn nonsense_is_refused() {
    let s = Sandbox::new();
    s.write("m.safetensors", nunchaku(Some(json!({"a": "1"})), false));
    s.write("plain.safetensors", example());
    s.write("flux/transformer/config.json", config().to_string());
    s.write("big/config.json", json!({"_class_name": "FluxTransformer2DModel"}).to_string());
    s.write("chroma/config.json", json!({"_class_name": "ChromaTransformer2DModel"}).to_string());
    s.write("list/config.json", "[]");
    s.write("empty/readme", "");
    let before = std::fs::read(s.path("m.safetensors")).expect("there");
    let usage = |words: &str, part: &str| {
        let run = s.run(words);
        assert!(run.code() == 2 && run.stderr().contains(part), "{words}: {}", run.stderr());
    };
    usage("metadata add m.safetensors", "--from <MODEL>");
    usage("metadata add m.safetensors --from flux --model-path flux", "cannot be used with");
    s.run("metadata add m.safetensors --from big").fails(1, &["big/config.json", "says 19 `transformer_blocks`"]);
    s.run("metadata add m.safetensors --from chroma").fails(1, &["chroma/config.json", "Nunchaku does not load"]);
    s.run("metadata add m.safetensors --from list").fails(1, &["list/config.json", "not a JSON object"]);
    s.run("metadata add m.safetensors --from empty").fails(1, &["the folder has no transformer/config.json"]);
    s.run("metadata add m.safetensors --from m.safetensors").fails(2, &["is the file itself"]);
    s.run("metadata add m.safetensors --from plain.safetensors").fails(1, &["has no `config` in its metadata"]);
    s.run("metadata add m.safetensors --from org/none").fails(1, &["not in the Hugging Face cache"]);
    s.run("metadata add m.safetensors --config-yaml none.yaml").fails(1, &["none.yaml", "no such file"]);
    s.run("metadata add plain.safetensors --from flux --extra-metadata").fails(1, &["Nunchaku's files"]);
    s.run("metadata add flux --from flux").fails(1, &["flux", "not a file"]);
    s.run("metadata add none.safetensors --from flux").fails(1, &["none.safetensors", "no such file"]);
    s.run("metadata remove m.safetensors b").fails(1, &["no key `b`", "it has `a`"]);
    usage("metadata remove m.safetensors", "<KEY>...");
    assert_eq!(std::fs::read(s.path("m.safetensors")).expect("there"), before);
}
