//! Names of layers, as models and adapters have them: what stands before them, and what they are called elsewhere.

/// Whose layers a name speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The model's that makes the pictures.
    Model,
    /// A text encoder's.
    TextEncoder,
}

/// What adapters put before a layer's dotted name, and whose layer it then is.
const DOTTED: [(&str, Option<Part>); 21] = [
    ("base_model.model.", None),
    ("transformer.", Some(Part::Model)),
    ("transformer_2.", Some(Part::Model)),
    ("unet.", Some(Part::Model)),
    ("prior.", Some(Part::Model)),
    ("diffusion_model.", Some(Part::Model)),
    ("model.diffusion_model.", Some(Part::Model)),
    ("text_encoder.", Some(Part::TextEncoder)),
    ("text_encoder_2.", Some(Part::TextEncoder)),
    ("text_encoder_3.", Some(Part::TextEncoder)),
    ("text_encoders.", Some(Part::TextEncoder)),
    ("cond_stage_model.", Some(Part::TextEncoder)),
    ("conditioner.", Some(Part::TextEncoder)),
    ("clip_l.", Some(Part::TextEncoder)),
    ("clip_g.", Some(Part::TextEncoder)),
    ("t5xxl.", Some(Part::TextEncoder)),
    ("hydit_clip.", Some(Part::TextEncoder)),
    ("text_model.", None),
    ("language_model.", None),
    ("model.", None),
    ("module.", None),
];

/// The same where dots have become underscores.
const UNDERSCORED: [(&str, Option<Part>); 11] = [
    ("lora_unet__", Some(Part::Model)),
    ("lora_unet_", Some(Part::Model)),
    ("lora_transformer_", Some(Part::Model)),
    ("lora_prior_unet_", Some(Part::Model)),
    ("lycoris_", Some(Part::Model)),
    ("lora_te_", Some(Part::TextEncoder)),
    ("lora_te1_", Some(Part::TextEncoder)),
    ("lora_te2_", Some(Part::TextEncoder)),
    ("lora_te3_", Some(Part::TextEncoder)),
    ("lora_prior_te_", Some(Part::TextEncoder)),
    ("text_model_", None),
];

/// What checkpoints put before their tensors' names.
const CHECKPOINT: [&str; 13] = [
    "model.diffusion_model.",
    "diffusion_model.",
    "model.language_model.",
    "model.",
    "net.",
    "transformer.",
    "text_model.",
    "cond_stage_model.transformer.",
    "cond_stage_model.model.",
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.model.",
    "text_encoders.",
    "language_model.",
];

/// What layers of a processor or of a fused name are called in the model; of the fused, whether it is only the first
/// rows. By how the names end.
const ALIASES: [(&str, &str, bool); 12] = [
    (".processor.qkv_lora1", ".img_attn.qkv", false),
    (".processor.qkv_lora2", ".txt_attn.qkv", false),
    (".processor.proj_lora1", ".img_attn.proj", false),
    (".processor.proj_lora2", ".txt_attn.proj", false),
    (".processor.qkv_lora", ".linear1", true),
    (".processor.proj_lora", ".linear2", false),
    (".linear1_qkv", ".linear1", true),
    (".to_out", ".to_out.0", false),
    // A text encoder's, which old diffusers named like a processor's.
    (".self_attn.to_out", ".self_attn.out_proj", false),
    (".self_attn.to_q", ".self_attn.q_proj", false),
    (".self_attn.to_k", ".self_attn.k_proj", false),
    (".self_attn.to_v", ".self_attn.v_proj", false),
];

/// A name that a layer may have in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The name, without `.weight`.
    pub name: String,
    /// Whether its dots are underscores.
    pub underscored: bool,
    /// Whether the adapter has only the first rows of it.
    pub first_rows: bool,
}

/// What a layer of an adapter may be called in the model, the most literal first, and whose layer it is.
pub(super) fn candidates(path: &str) -> (Vec<Candidate>, Option<Part>) {
    let mut found: Vec<Candidate> = Vec::new();
    let mut part = None;
    let underscored = !path.contains('.') && UNDERSCORED.iter().any(|(prefix, _)| path.starts_with(prefix));
    let prefixes: &[(&str, Option<Part>)] = if underscored { &UNDERSCORED } else { &DOTTED };
    let mut rest = path;
    // `unet.base_model.model.`, `base_model.model.model.`, and no end of it in a hostile file.
    for _ in 0..4 {
        let candidate = |name: String, first_rows| Candidate { name, underscored, first_rows };
        found.push(candidate(rest.to_owned(), false));
        if !underscored {
            found.extend(aliases(rest).map(|(name, first_rows)| candidate(name, first_rows)));
            if rest.contains(".processor.") {
                let plain = rest.replace(".processor.", ".");
                found.extend(aliases(&plain).map(|(name, first_rows)| candidate(name, first_rows)));
                found.push(candidate(plain, false));
            }
        }
        let stripped = prefixes.iter().find_map(|(prefix, part)| Some((rest.strip_prefix(prefix)?, *part)));
        let Some((shorter, whose)) = stripped else { break };
        part = part.or(whose);
        rest = shorter;
    }
    (found, part)
}

fn aliases(name: &str) -> impl Iterator<Item = (String, bool)> {
    ALIASES.iter().filter_map(move |(end, real, first)| Some((format!("{}{real}", name.strip_suffix(end)?), *first)))
}

/// A tensor's name as it is, and without what checkpoints put before it.
pub(super) fn forms(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let this = rest?;
        rest = CHECKPOINT.iter().find_map(|prefix| this.strip_prefix(prefix));
        // ComfyUI's encoders stand behind a name of their own: `text_encoders.clip_l.transformer.…`.
        if let Some(encoder) = this.strip_prefix("text_encoders.") {
            rest = encoder.split_once('.').map(|(_, inner)| inner);
        }
        Some(this)
    })
    .take(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_layers_may_have() {
        fn check(path: &str, name: &str, expected: Option<Part>) {
            let (found, part) = candidates(path);
            assert!(found.iter().any(|c| c.name == name), "{path}: {found:?}");
            assert_eq!(part, expected, "{path}");
        }
        let (model, encoder) = (Some(Part::Model), Some(Part::TextEncoder));
        check("lora_unet_double_blocks_0_img_attn_qkv", "double_blocks_0_img_attn_qkv", model);
        check("lora_unet__blocks_0_cross_attn_k", "blocks_0_cross_attn_k", model);
        check("lycoris_transformer_blocks_0_attn_to_q", "transformer_blocks_0_attn_to_q", model);
        check("lora_te1_text_model_encoder_layers_0_mlp_fc1", "text_model_encoder_layers_0_mlp_fc1", encoder);
        check("transformer.transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q", model);
        check("base_model.model.layers.0.q_proj", "layers.0.q_proj", None);
        check("base_model.model.transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_attn", model);
        check("unet.base_model.model.blocks.0.attn1.to_q", "blocks.0.attn1.to_q", model);
        check("unet.mid_block.attn1.processor.to_q", "mid_block.attn1.to_q", model);
        check("unet.mid_block.attn1.processor.to_out", "mid_block.attn1.to_out.0", model);
        check("text_encoder.layers.0.self_attn.to_q", "layers.0.self_attn.q_proj", encoder);
        check("double_blocks.3.processor.qkv_lora2", "double_blocks.3.txt_attn.qkv", None);
        check("single_blocks.3.processor.qkv_lora", "single_blocks.3.linear1", None);
        check("diffusion_model.scale_shift_table", "scale_shift_table", model);
    }

    #[test]
    fn forms_of_a_tensors_name() {
        fn check(name: &str, expected: &[&str]) {
            assert_eq!(forms(name).collect::<Vec<_>>(), expected);
        }
        check("blocks.0.q.weight", &["blocks.0.q.weight"]);
        check(
            "model.diffusion_model.blocks.0.q.weight",
            &["model.diffusion_model.blocks.0.q.weight", "blocks.0.q.weight"],
        );
        check(
            "text_encoders.clip_l.transformer.text_model.final_layer_norm.weight",
            &[
                "text_encoders.clip_l.transformer.text_model.final_layer_norm.weight",
                "transformer.text_model.final_layer_norm.weight",
                "text_model.final_layer_norm.weight",
                "final_layer_norm.weight",
            ],
        );
    }
}
