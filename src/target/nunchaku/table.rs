//! Every array that a single file has, by its model's config: names, types and shapes. FLUX's C++ loader leaves what is
//! missing uninitialised and says nothing; the others ask for exactly these.
//!
//! Optional are only scales with a default, which are no part of it: `wtscale` and `wcscales`.
use std::collections::HashMap;

use serde_json::Value;

use super::metadata::{Precision, class_name};
use crate::core::{Error, Result, Storage};

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Codes with a low-rank branch: `[N, K]`.
    Codes {
        /// Whether it has a bias.
        bias: bool,
    },
    /// AWQ, with a bias: `[N, K]`.
    Modulation,
    /// One array of 16 bits, of any shape.
    Plain,
}

/// A layer, or an array that is not quantized, as the file calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The layer's name; of a plain array the array's.
    pub name: String,
    /// How it is stored.
    pub kind: Kind,
    /// `[N, K]`; of a plain array its shape.
    pub shape: Vec<u64>,
}

/// What a file says of itself, as far as its arrays depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What the codes are.
    pub precision: Precision,
    /// The branches' rank.
    pub rank: u64,
    /// Whether Z-Image's refiners are plain.
    pub skip_refiners: bool,
}

impl Layer {
    /// Its arrays: name, type (BF16 standing for 16 bits of either kind) and shape. `classic` for FLUX's names.
    pub fn arrays(&self, terms: Terms, classic: bool) -> Vec<(String, Storage, Vec<u64>)> {
        let (n, k) = match self.shape[..] {
            [n, k] => (n, k),
            _ => (self.shape.first().copied().unwrap_or(1), 1),
        };
        let array = |part: &str, storage, shape: &[u64]| (format!("{}.{part}", self.name), storage, shape.to_vec());
        match self.kind {
            Kind::Plain => vec![(self.name.clone(), Storage::BF16, self.shape.clone())],
            Kind::Modulation => vec![
                array("qweight", Storage::I32, &[n / 4, k / 2]),
                array("wscales", Storage::BF16, &[k / 64, n]),
                array("wzeros", Storage::BF16, &[k / 64, n]),
                array("bias", Storage::BF16, &[n]),
            ],
            Kind::Codes { bias } => {
                let scales = match terms.precision {
                    Precision::Int4 => Storage::BF16,
                    Precision::Fp4 => Storage::F8_E4M3,
                };
                let [smooth, original, down, up] = if classic {
                    ["smooth", "smooth_orig", "lora_down", "lora_up"]
                } else {
                    ["smooth_factor", "smooth_factor_orig", "proj_down", "proj_up"]
                };
                let mut all = vec![
                    array("qweight", Storage::I8, &[n, k / 2]),
                    array("wscales", scales, &[k / terms.precision.group_size(), n]),
                    array(smooth, Storage::BF16, &[k]),
                    array(original, Storage::BF16, &[k]),
                    array(down, Storage::BF16, &[k, terms.rank]),
                    array(up, Storage::BF16, &[n, terms.rank]),
                ];
                if bias {
                    all.push(array("bias", Storage::BF16, &[n]));
                }
                all
            }
        }
    }
}

/// Refuses arrays that are not those of a config's model: all of its names and shapes, and no others. Of a class without a
/// table nothing is known.
///
/// # Errors
/// The first that is missing, of another shape, or one too many.
pub fn fits<'a>(config: &Value, terms: Terms, arrays: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> Result<()> {
    let Some(layers) = layers(config, terms) else { return Ok(()) };
    let classic = class_name(config) == Some("FluxTransformer2DModel");
    let mut ours: HashMap<&str, &[u64]> = arrays.into_iter().collect();
    let said = |what: String| Err(Error::failed(format!("seems another model's: {what}")));
    for layer in &layers {
        for (name, _, shape) in layer.arrays(terms, classic) {
            match ours.remove(name.as_str()) {
                None => return said(format!("by it there is `{name}`, and the file has none")),
                Some(found) if found != shape => {
                    return said(format!("by it `{name}` has the shape {shape:?}, and in the file it has {found:?}"));
                }
                Some(_) => {}
            }
        }
    }
    let second = |name: &&str| name.ends_with(".wtscale") || name.ends_with(".wcscales");
    match ours.into_keys().filter(|name| !second(name)).min() {
        Some(name) => said(format!("by it there is no `{}`, which the file has", crate::core::name::clean(name))),
        None => Ok(()),
    }
}

/// Layers as they are put down, one after the other.
#[derive(Default)]
struct Sheet(Vec<Layer>);

impl Sheet {
    fn put(&mut self, name: String, kind: Kind, shape: &[u64]) {
        self.0.push(Layer { name, kind, shape: shape.to_vec() });
    }
    fn linear(&mut self, name: &str, n: u64, k: u64) {
        self.put(format!("{name}.weight"), Kind::Plain, &[n, k]);
        self.put(format!("{name}.bias"), Kind::Plain, &[n]);
    }
    fn norms(&mut self, at: &str, names: &[&str], n: u64) {
        for name in names {
            self.put(format!("{at}.{name}.weight"), Kind::Plain, &[n]);
        }
    }
    fn codes(&mut self, at: &str, bias: bool, layers: &[(&str, u64, u64)]) {
        for (name, n, k) in layers {
            self.put(format!("{at}.{name}"), Kind::Codes { bias }, &[*n, *k]);
        }
    }
}

/// The most blocks of a kind that are believed of a config; the largest models have some 60.
const MOST: u64 = 1 << 12;

/// What a config says, or its class's default.
struct Config<'a>(&'a Value);

impl Config<'_> {
    fn number(&self, key: &str, default: u64) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or(default).min(1 << 24)
    }
    fn count(&self, key: &str, default: u64) -> u64 {
        self.number(key, default).min(MOST)
    }
    fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }
    fn list(&self, key: &str, default: u64) -> Vec<u64> {
        let all = self.0.get(key).and_then(Value::as_array);
        all.map_or_else(|| vec![default], |a| a.iter().take(16).map(|v| v.as_u64().unwrap_or(0).min(1 << 10)).collect())
    }
}

/// All layers of a file, for the classes whose tables are known: FLUX, Qwen-Image, Z-Image.
pub fn layers(config: &Value, terms: Terms) -> Option<Vec<Layer>> {
    let of = Config(config);
    let mut sheet = Sheet::default();
    match class_name(config)? {
        "FluxTransformer2DModel" => flux(&mut sheet, &of),
        "QwenImageTransformer2DModel" => qwen(&mut sheet, &of),
        "ZImageTransformer2DModel" => z_image(&mut sheet, &of, terms.skip_refiners),
        _ => return None,
    }
    Some(sheet.0)
}

fn flux(sheet: &mut Sheet, of: &Config) {
    let head = of.number("attention_head_dim", 128);
    let d = head * of.number("num_attention_heads", 24);
    let channels = of.number("in_channels", 64);
    let patch = of.number("patch_size", 1);
    sheet.linear("x_embedder", d, channels);
    sheet.linear("context_embedder", d, of.number("joint_attention_dim", 4096));
    let mut embedders = vec![("timestep", 256), ("text", of.number("pooled_projection_dim", 768))];
    if of.flag("guidance_embeds") {
        embedders.push(("guidance", 256));
    }
    for (name, k) in embedders {
        sheet.linear(&format!("time_text_embed.{name}_embedder.linear_1"), d, k);
        sheet.linear(&format!("time_text_embed.{name}_embedder.linear_2"), d, d);
    }
    sheet.linear("norm_out.linear", 2 * d, d);
    sheet.linear("proj_out", patch.saturating_mul(patch).saturating_mul(of.number("out_channels", channels)), d);
    for i in 0..of.count("num_layers", 19) {
        let at = format!("transformer_blocks.{i}");
        for name in ["norm1.linear", "norm1_context.linear"] {
            sheet.put(format!("{at}.{name}"), Kind::Modulation, &[6 * d, d]);
        }
        sheet.norms(&at, &["norm_q", "norm_k", "norm_added_q", "norm_added_k"], head);
        for context in ["", "_context"] {
            sheet.codes(
                &at,
                true,
                &[
                    (&format!("qkv_proj{context}"), 3 * d, d),
                    (&format!("out_proj{context}"), d, d),
                    (&format!("mlp{context}_fc1"), 4 * d, d),
                    (&format!("mlp{context}_fc2"), d, 4 * d),
                ],
            );
        }
    }
    for i in 0..of.count("num_single_layers", 38) {
        let at = format!("single_transformer_blocks.{i}");
        sheet.put(format!("{at}.norm.linear"), Kind::Modulation, &[3 * d, d]);
        sheet.norms(&at, &["norm_q", "norm_k"], head);
        let all = [("qkv_proj", 3 * d, d), ("out_proj", d, d), ("mlp_fc1", 4 * d, d), ("mlp_fc2", d, 4 * d)];
        sheet.codes(&at, true, &all);
    }
}

fn qwen(sheet: &mut Sheet, of: &Config) {
    let head = of.number("attention_head_dim", 128);
    let d = head * of.number("num_attention_heads", 24);
    let text = of.number("joint_attention_dim", 3584);
    let patch = of.number("patch_size", 2);
    sheet.linear("img_in", d, of.number("in_channels", 64));
    sheet.linear("txt_in", d, text);
    sheet.put("txt_norm.weight".into(), Kind::Plain, &[text]);
    sheet.linear("time_text_embed.timestep_embedder.linear_1", d, 256);
    sheet.linear("time_text_embed.timestep_embedder.linear_2", d, d);
    sheet.linear("norm_out.linear", 2 * d, d);
    sheet.linear("proj_out", patch.saturating_mul(patch).saturating_mul(of.number("out_channels", 16)), d);
    for i in 0..of.count("num_layers", 60) {
        let at = format!("transformer_blocks.{i}");
        for name in ["img_mod.1", "txt_mod.1"] {
            sheet.put(format!("{at}.{name}"), Kind::Modulation, &[6 * d, d]);
        }
        sheet.norms(&at, &["attn.norm_q", "attn.norm_k", "attn.norm_added_q", "attn.norm_added_k"], head);
        sheet.codes(
            &at,
            true,
            &[
                ("attn.to_qkv", 3 * d, d),
                ("attn.add_qkv_proj", 3 * d, d),
                ("attn.to_out.0", d, d),
                ("attn.to_add_out", d, d),
                ("img_mlp.net.0.proj", 4 * d, d),
                ("img_mlp.net.2", d, 4 * d),
                ("txt_mlp.net.0.proj", 4 * d, d),
                ("txt_mlp.net.2", d, 4 * d),
            ],
        );
    }
}

fn z_image(sheet: &mut Sheet, of: &Config, skip_refiners: bool) {
    let d = of.number("dim", 3840);
    let head = d / of.number("n_heads", 30).max(1);
    let (channels, text, small) = (of.number("in_channels", 16), of.number("cap_feat_dim", 2560), d.min(256));
    // The class computes it in floats.
    let hidden = (d as f64 / 3.0 * 8.0) as u64;
    for name in ["x_pad_token", "cap_pad_token"] {
        sheet.put(name.into(), Kind::Plain, &[1, d]);
    }
    for (p, f) in of.list("all_patch_size", 2).into_iter().zip(of.list("all_f_patch_size", 1)) {
        let pixels = f * p * p * channels;
        sheet.linear(&format!("all_x_embedder.{p}-{f}"), d, pixels);
        sheet.linear(&format!("all_final_layer.{p}-{f}.linear"), pixels, d);
        sheet.linear(&format!("all_final_layer.{p}-{f}.adaLN_modulation.1"), d, small);
    }
    sheet.linear("t_embedder.mlp.0", 1024, 256);
    sheet.linear("t_embedder.mlp.2", small, 1024);
    sheet.put("cap_embedder.0.weight".into(), Kind::Plain, &[text]);
    sheet.linear("cap_embedder.1", d, text);
    let refiners = of.count("n_refiner_layers", 2);
    for (kind, count) in
        [("layers", of.count("n_layers", 30)), ("noise_refiner", refiners), ("context_refiner", refiners)]
    {
        for i in 0..count {
            let at = format!("{kind}.{i}");
            sheet.norms(&at, &["attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"], d);
            sheet.norms(&at, &["attention.norm_q", "attention.norm_k"], head);
            if kind != "context_refiner" {
                sheet.linear(&format!("{at}.adaLN_modulation.0"), 4 * d, small);
            }
            let all = [
                ("attention.to_qkv", 3 * d, d),
                ("attention.to_out.0", d, d),
                ("feed_forward.net.0.proj", 2 * hidden, d),
                ("feed_forward.net.2", d, hidden),
            ];
            if !skip_refiners || kind == "layers" {
                sheet.codes(&at, false, &all);
                continue;
            }
            let plain = ["to_q", "to_k", "to_v"].map(|x| (format!("attention.{x}"), d, d));
            let rest = all.iter().skip(1).map(|(name, n, k)| ((*name).to_owned(), *n, *k));
            for (name, n, k) in plain.into_iter().chain(rest) {
                sheet.put(format!("{at}.{name}.weight"), Kind::Plain, &[n, k]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn published_files_have_as_many_arrays() {
        fn check(config: Value, skip_refiners: bool, expected: usize) {
            let terms = Terms { precision: Precision::Int4, rank: 32, skip_refiners };
            let classic = config["_class_name"] == "FluxTransformer2DModel";
            let layers = layers(&config, terms).expect("a table");
            let names: Vec<String> = layers.iter().flat_map(|l| l.arrays(terms, classic)).map(|(n, ..)| n).collect();
            assert_eq!(names.len(), expected, "{config}");
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), expected, "no name twice");
        }
        check(json!({"_class_name": "FluxTransformer2DModel", "guidance_embeds": true}), false, 2604);
        check(json!({"_class_name": "FluxTransformer2DModel"}), false, 2600);
        check(json!({"_class_name": "QwenImageTransformer2DModel"}), false, 4093);
        check(json!({"_class_name": "ZImageTransformer2DModel"}), false, 1099);
        // Four refiners of four layers: six arrays less each, and of q, k and v two more.
        check(json!({"_class_name": "ZImageTransformer2DModel"}), true, 1099 - 4 * 4 * 6 + 4 * 6);
    }

    #[test]
    fn a_config_that_lies_makes_no_endless_table() {
        let huge = json!({"_class_name": "FluxTransformer2DModel", "num_layers": u64::MAX, "num_attention_heads": u64::MAX,
            "attention_head_dim": u64::MAX, "num_single_layers": 0, "patch_size": u64::MAX});
        let terms = Terms { precision: Precision::Fp4, rank: 32, skip_refiners: false };
        assert!(layers(&huge, terms).expect("a table").len() < 14 * MOST as usize + 100);
        assert_eq!(layers(&json!({"_class_name": "SanaTransformer2DModel"}), terms), None);
    }
}
