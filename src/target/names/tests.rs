use std::collections::BTreeSet;

use super::table::{Rule, Section, Way};
use super::*;

mod golden;
mod trips;

type Tensor<'a> = (&'a str, &'a [u64]);

/// The tensors that tell a layout, of a shape that suits them all.
fn marks(names: &[&'static str]) -> Vec<(String, Vec<u64>)> {
    names.iter().map(|name| ((*name).to_owned(), vec![6, 1])).collect()
}

fn borrowed(tensors: &[(String, Vec<u64>)]) -> Vec<Tensor<'_>> {
    tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect()
}

fn sections(name: &str) -> &'static [Section] {
    let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
    match family.layout {
        Layout::Sections(sections) => sections,
        _ => panic!("{name} has no tables"),
    }
}

fn sources<'a>(tensors: &[Tensor<'a>]) -> map::Sources<'a> {
    map::Sources::new(tensors.iter().map(|(name, shape)| (Some(*name), *shape)))
}

/// Both ways: the parts make up the first tensor of `whole`, which gives the parts. What else is there only helps.
fn check(family: &str, parts: &[Tensor], whole: &[Tensor], order: &[(usize, Range<u64>)]) {
    let (tensors, unknown) = map::join(&sources(parts), sections(family)).unwrap();
    assert!(unknown.is_empty(), "{family} {unknown:?}");
    let pieces: Vec<Piece> = order.iter().cloned().map(|(source, rows)| Piece { source, rows }).collect();
    assert_eq!(tensors.first(), Some(&Renamed { name: whole[0].0.into(), pieces }), "{family}");

    let (tensors, unknown) = map::split(&sources(whole), sections(family)).unwrap();
    assert!(unknown.is_empty(), "{family} {unknown:?}");
    let of_whole: Vec<&Renamed> = tensors.iter().filter(|t| t.pieces[0].source == 0).collect();
    let mut at = 0;
    for ((name, _), found) in parts.iter().zip(&of_whole) {
        assert_eq!(*name, found.name, "{family}");
        let rows: u64 = found.pieces.iter().map(|piece| piece.rows.end - piece.rows.start).sum();
        if order.len() == of_whole.len() {
            assert_eq!(found.pieces, [Piece { source: 0, rows: at..at + rows }], "{name}");
        } else {
            // A half for a half: swapping is its own inverse.
            assert_eq!(found.pieces.iter().map(|p| (p.source, p.rows.clone())).collect::<Vec<_>>(), order, "{name}");
        }
        at += rows;
    }
}

/// A tensor that is only called differently.
fn renamed(family: &str, diffusers: &str, original: &str) {
    check(family, &[(diffusers, &[3, 2])], &[(original, &[3, 2])], &[(0, 0..3)]);
}

#[test]
fn flux() {
    check(
        "flux",
        &[
            ("transformer_blocks.18.attn.to_q.weight", &[4, 4]),
            ("transformer_blocks.18.attn.to_k.weight", &[4, 4]),
            ("transformer_blocks.18.attn.to_v.weight", &[4, 4]),
        ],
        &[("double_blocks.18.img_attn.qkv.weight", &[12, 4])],
        &[(0, 0..4), (1, 0..4), (2, 0..4)],
    );
    // The width of the weight tells the parts of the bias.
    check(
        "flux",
        &[
            ("single_transformer_blocks.0.attn.to_q.bias", &[4]),
            ("single_transformer_blocks.0.attn.to_k.bias", &[4]),
            ("single_transformer_blocks.0.attn.to_v.bias", &[4]),
            ("single_transformer_blocks.0.proj_mlp.bias", &[16]),
            ("single_transformer_blocks.0.attn.to_q.weight", &[4, 4]),
            ("single_transformer_blocks.0.attn.to_k.weight", &[4, 4]),
            ("single_transformer_blocks.0.attn.to_v.weight", &[4, 4]),
            ("single_transformer_blocks.0.proj_mlp.weight", &[16, 4]),
        ],
        &[("single_blocks.0.linear1.bias", &[28]), ("single_blocks.0.linear1.weight", &[28, 4])],
        &[(0, 0..4), (1, 0..4), (2, 0..4), (3, 0..16)],
    );
    check(
        "flux",
        &[("norm_out.linear.weight", &[8, 4])],
        &[("final_layer.adaLN_modulation.1.weight", &[8, 4])],
        &[(0, 4..8), (0, 0..4)],
    );
    renamed("flux", "transformer_blocks.7.attn.norm_added_q.weight", "double_blocks.7.txt_attn.norm.query_norm.scale");
    renamed("flux", "single_transformer_blocks.37.proj_out.weight", "single_blocks.37.linear2.weight");
    renamed("flux", "time_text_embed.guidance_embedder.linear_2.bias", "guidance_in.out_layer.bias");
}

#[test]
fn kin_of_flux() {
    renamed("flux2", "single_transformer_blocks.47.attn.to_qkv_mlp_proj.weight", "single_blocks.47.linear1.weight");
    renamed("flux2", "transformer_blocks.0.ff_context.linear_in.weight", "double_blocks.0.txt_mlp.0.weight");
    renamed("flux2", "single_stream_modulation.linear.weight", "single_stream_modulation.lin.weight");
    renamed("chroma", "distilled_guidance_layer.norms.4.weight", "distilled_guidance_layer.norms.4.scale");
    renamed(
        "chroma",
        "distilled_guidance_layer.layers.4.linear_1.bias",
        "distilled_guidance_layer.layers.4.in_layer.bias",
    );
}

#[test]
fn stable_diffusion_3() {
    // Six chunks keep their order; the pair of the last block is swapped.
    for (rows, order) in [(24, vec![(0, 0..24)]), (8, vec![(0, 4..8), (0, 0..4)])] {
        let shape: &[u64] = &[rows, 4];
        check(
            "sd3",
            &[("transformer_blocks.23.norm1_context.linear.weight", shape)],
            &[("joint_blocks.23.context_block.adaLN_modulation.1.weight", shape)],
            &order,
        );
    }
    check(
        "sd3",
        &[
            ("transformer_blocks.12.attn2.to_q.bias", &[4]),
            ("transformer_blocks.12.attn2.to_k.bias", &[4]),
            ("transformer_blocks.12.attn2.to_v.bias", &[4]),
        ],
        &[("joint_blocks.12.x_block.attn2.qkv.bias", &[12])],
        &[(0, 0..4), (1, 0..4), (2, 0..4)],
    );
    renamed("sd3", "transformer_blocks.0.attn.norm_added_k.weight", "joint_blocks.0.context_block.attn.ln_k.weight");
    renamed("sd3", "pos_embed.pos_embed", "pos_embed");
}

#[test]
fn lumina() {
    // Fewer heads of keys and values than of queries.
    check(
        "lumina2",
        &[
            ("context_refiner.1.attn.to_q.weight", &[6, 6]),
            ("context_refiner.1.attn.to_k.weight", &[2, 6]),
            ("context_refiner.1.attn.to_v.weight", &[2, 6]),
        ],
        &[("context_refiner.1.attention.qkv.weight", &[10, 6])],
        &[(0, 0..6), (1, 0..2), (2, 0..2)],
    );
    renamed("lumina2", "layers.25.norm1.norm.weight", "layers.25.attention_norm1.weight");
    renamed("lumina2", "context_refiner.1.norm1.weight", "context_refiner.1.attention_norm1.weight");
    renamed("z-image", "all_x_embedder.2-1.weight", "x_embedder.weight");
    renamed("z-image", "all_final_layer.2-1.adaLN_modulation.1.bias", "final_layer.adaLN_modulation.1.bias");
    renamed("z-image", "noise_refiner.0.attention.to_out.0.weight", "noise_refiner.0.attention.out.weight");
    renamed("z-image", "cap_pad_token", "cap_pad_token");
}

#[test]
fn others() {
    renamed("wan", "blocks.39.norm2.weight", "blocks.39.norm3.weight");
    renamed("wan", "blocks.0.attn2.norm_added_k.weight", "blocks.0.cross_attn.norm_k_img.weight");
    renamed("wan", "scale_shift_table", "head.modulation");
    renamed("wan", "blocks.0.scale_shift_table", "blocks.0.modulation");
    renamed("wan", "vace_blocks.0.proj_in.weight", "vace_blocks.0.before_proj.weight");
    renamed("wan", "condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos");
    renamed("ltx-video", "transformer_blocks.27.attn2.norm_q.weight", "transformer_blocks.27.attn2.q_norm.weight");
    renamed(
        "ltx-video",
        "time_embed.emb.timestep_embedder.linear_1.bias",
        "adaln_single.emb.timestep_embedder.linear_1.bias",
    );
    renamed("ltx2", "av_cross_attn_video_a2v_gate.linear.bias", "av_ca_a2v_gate_adaln_single.linear.bias");
    renamed(
        "ltx2",
        "transformer_blocks.0.video_a2v_cross_attn_scale_shift_table",
        "transformer_blocks.0.scale_shift_table_a2v_ca_video",
    );
    renamed(
        "hunyuan-video",
        "context_embedder.token_refiner.refiner_blocks.1.norm_out.linear.bias",
        "txt_in.individual_token_refiner.blocks.1.adaLN_modulation.1.bias",
    );
    renamed("hunyuan-video-1.5", "context_embedder_2.linear_3.weight", "byt5_in.fc3.weight");
    renamed("hunyuan-video-1.5", "cond_type_embed.weight", "cond_type_embedding.weight");
    renamed("hunyuan-image", "time_guidance_embed.timestep_embedder_r.linear_1.bias", "time_r_in.in_layer.bias");
    renamed("hunyuan-video", "single_transformer_blocks.39.attn.norm_k.weight", "single_blocks.39.k_norm.weight");
    check(
        "qwen-image-2.1",
        &[
            ("transformer_blocks.0.img_mlp.gate_layer.weight", &[6, 2]),
            ("transformer_blocks.0.img_mlp.proj.weight", &[6, 2]),
        ],
        &[("transformer_blocks.0.img_mlp.gate_up.weight", &[12, 2])],
        &[(0, 0..6), (1, 0..6)],
    );
    // The last block has no output for the text, and modulates it differently.
    renamed("mochi", "transformer_blocks.47.norm1_context.linear_1.bias", "blocks.47.mod_y.bias");
    check(
        "mochi",
        &[
            ("transformer_blocks.0.norm1_context.linear.weight", &[8, 2]),
            ("transformer_blocks.0.attn1.to_add_out.weight", &[2, 2]),
        ],
        &[("blocks.0.mod_y.weight", &[8, 2]), ("blocks.0.attn.proj_y.weight", &[2, 2])],
        &[(0, 0..8)],
    );
    renamed("auraflow", "joint_transformer_blocks.3.attn.to_q.weight", "double_layers.3.attn.w2q.weight");
    renamed("auraflow", "single_transformer_blocks.3.attn.to_q.weight", "single_layers.3.attn.w1q.weight");
    renamed("cosmos", "transformer_blocks.27.attn2.norm_k.weight", "blocks.block27.blocks.1.block.attn.to_k.1.weight");
    renamed(
        "cosmos-predict2",
        "transformer_blocks.27.norm3.linear_2.weight",
        "blocks.27.adaln_modulation_mlp.2.weight",
    );
    check(
        "pixart",
        &[("transformer_blocks.0.attn2.to_k.bias", &[4]), ("transformer_blocks.0.attn2.to_v.bias", &[4])],
        &[("blocks.0.cross_attn.kv_linear.bias", &[8])],
        &[(0, 0..4), (1, 0..4)],
    );
}

#[test]
fn what_is_not_a_block_number_is_not_renamed() {
    fn check(name: &str) {
        let (tensors, unknown) = map::join(&sources(&[(name, &[4, 4])]), sections("flux")).unwrap();
        assert_eq!((tensors.len(), unknown), (0, vec![0]), "{name}");
    }
    check("transformer_blocks.07.norm1.linear.weight");
    check("transformer_blocks.x.norm1.linear.weight");
    check("transformer_blocks.*.norm1.linear.weight");
    check("transformer_blocks.1234567890.norm1.linear.weight");
    check("transformer_blocks.7.norm1.linear.weight_scale");
    check("transformer_blocks.7.norm1.linear");
    check("transformer_blocks.7.attn.norm_q.bias");
    check("controlnet_blocks.0.weight");
    check("");
}

#[test]
fn errors_name_the_tensor() {
    fn joined(family: &str, parts: &[Tensor], says: &str) {
        assert_eq!(map::join(&sources(parts), sections(family)), Err(says.to_owned()));
    }
    fn divided(family: &str, tensors: &[Tensor], says: &str) {
        assert_eq!(map::split(&sources(tensors), sections(family)), Err(says.to_owned()));
    }
    let q: Tensor = ("transformer_blocks.0.attn.to_q.weight", &[4, 4]);
    let k: Tensor = ("transformer_blocks.0.attn.to_k.weight", &[4, 4]);
    joined(
        "flux",
        &[q, ("transformer_blocks.0.attn.to_v.weight", &[4, 4])],
        "transformer_blocks.0.attn.to_k.weight is missing: it is a part of double_blocks.0.img_attn.qkv.weight",
    );
    joined(
        "flux",
        &[q, k, ("transformer_blocks.0.attn.to_v.weight", &[4, 5])],
        "double_blocks.0.img_attn.qkv.weight: its parts are of shapes that do not stack: [4, 4], [4, 4], [4, 5]",
    );
    joined(
        "flux",
        &[q, k, ("transformer_blocks.0.attn.to_v.weight", &[5, 4])],
        "double_blocks.0.img_attn.qkv.weight: its parts are of different heights: [4, 4], [4, 4], [5, 4]",
    );
    joined("flux", &[q, q], "transformer_blocks.0.attn.to_q.weight is there twice");
    joined(
        "lumina2",
        &[
            ("layers.0.attn.to_q.weight", &[5, 6]),
            ("layers.0.attn.to_k.weight", &[2, 6]),
            ("layers.0.attn.to_v.weight", &[2, 6]),
        ],
        "layers.0.attention.qkv.weight: its parts are of unexpected heights: [5, 6], [2, 6], [2, 6], for an input of 6",
    );
    joined(
        "sd3",
        &[("transformer_blocks.0.norm1_context.linear.bias", &[8])],
        "joint_blocks.0.context_block.adaLN_modulation.1.bias: transformer_blocks.0.norm1_context.linear.weight is \
         missing: its shape tells which rows are which",
    );
    joined(
        "mochi",
        &[("transformer_blocks.0.norm1_context.linear.weight", &[8, 2])],
        "transformer_blocks.0.norm1_context.linear.weight is there, but its block is of the other kind",
    );
    divided(
        "flux",
        &[("double_blocks.0.img_attn.qkv.weight", &[11, 4])],
        "double_blocks.0.img_attn.qkv.weight: 3 parts were expected, but its shape is [11, 4]",
    );
    divided(
        "flux",
        &[("double_blocks.0.img_attn.qkv.bias", &[])],
        "double_blocks.0.img_attn.qkv.bias: 3 parts were expected, but its shape is []",
    );
    divided(
        "flux",
        &[("single_blocks.0.linear1.weight", &[12, 4])],
        "single_blocks.0.linear1.weight: 4 parts were expected, but its shape is [12, 4]",
    );
    divided(
        "flux",
        &[("single_blocks.0.linear1.weight", &[11, 4])],
        "single_blocks.0.linear1.weight: 4 parts were expected, but its shape is [11, 4]",
    );
    divided(
        "flux",
        &[("single_blocks.0.linear1.weight", &[11, u64::MAX])],
        "single_blocks.0.linear1.weight: 4 parts were expected, but its shape is [11, 18446744073709551615]",
    );
    divided(
        "flux",
        &[("single_blocks.0.linear1.bias", &[28])],
        "single_blocks.0.linear1.bias: single_blocks.0.linear1.weight is missing: its shape tells which rows are which",
    );
    divided(
        "flux",
        &[("final_layer.adaLN_modulation.1.weight", &[7, 4])],
        "final_layer.adaLN_modulation.1.weight: it has two halves, but its shape is [7, 4]",
    );
}

#[test]
fn each_family_is_known_by_its_marks() {
    for family in FAMILIES {
        let same = matches!(family.layout, Layout::Same);
        for (names, side) in [(family.diffusers, Side::Diffusers), (family.original, Side::Original)] {
            let tensors = marks(names);
            let side = if same { Side::Both } else { side };
            let expected = (!names.is_empty()).then_some((family.name, side));
            assert_eq!(recognise(&borrowed(&tensors)), expected, "{names:?}");
            for prefix in PREFIXES {
                let tensors: Vec<_> =
                    tensors.iter().map(|(name, shape)| (format!("{prefix}{name}"), shape.clone())).collect();
                let expected = expected.filter(|_| side != Side::Diffusers || prefix.is_empty());
                assert_eq!(recognise(&borrowed(&tensors)), expected, "{prefix} {names:?}");
            }
            for missing in 0..tensors.len() {
                let mut tensors = tensors.clone();
                tensors.remove(missing);
                assert_ne!(
                    recognise(&borrowed(&tensors)).map(|(name, _)| name),
                    Some(family.name),
                    "{missing} {names:?}"
                );
            }
        }
    }
    assert_eq!(recognise(&[("model.embed_tokens.weight", &[8, 4])]), None);
    assert_eq!(recognise(&[]), None);
}

#[test]
fn tables_are_sound() {
    for family in FAMILIES {
        let Layout::Sections(sections) = family.layout else { continue };
        let rules = table::rules(sections);
        let stars = |name: &str| name.matches('*').count();
        let numbers = |name: &str| name.split('*').next().unwrap().chars().any(|c| c.is_ascii_digit());
        for rule in &rules {
            let n = rule.parts.len();
            assert!(
                match rule.way {
                    Way::Whole | Way::Swapped | Way::SwappedPair => n == 1,
                    Way::Even => n > 1,
                    Way::Either(..) => n == 2,
                    Way::Wide(wide) => 0 < wide && wide < n,
                },
                "{rule:?}"
            );
            for name in rule.parts.iter().chain([&rule.whole]) {
                assert!(stars(name) <= 1 && stars(name) == stars(&rule.whole), "{rule:?}");
                assert!(stars(name) == 0 || !numbers(name), "the block's number must be the first: {rule:?}");
            }
        }
        for diffusers in [true, false] {
            let names = |rule: &Rule| if diffusers { rule.parts.clone() } else { vec![rule.whole.clone()] };
            let mut seen = BTreeSet::new();
            for name in rules.iter().flat_map(names) {
                assert!(seen.insert(name.clone()), "{} names {name} twice", family.name);
            }
            let marks = if diffusers { family.diffusers } else { family.original };
            for mark in marks {
                let layer = mark.strip_suffix(".weight").unwrap_or(mark);
                let found = [layer.to_owned(), layer.replacen('0', "*", 1), mark.replacen('0', "*", 1)];
                assert!(found.iter().any(|name| seen.contains(name)), "{mark} of {} is in no table", family.name);
            }
        }
    }
}

#[test]
fn what_cannot_be_mapped() {
    let flux = marks(super::flux::FLUX.original);
    assert_eq!(to_original(&borrowed(&flux)), Err(Unmapped::Already("flux")));
    assert_eq!(to_original(&[("a.weight", &[1])]), Err(Unmapped::Unrecognised));
    let mut wan = marks(video::WAN.original);
    wan.push(("face_adapter.fuser_blocks.0.linear1_kv.weight".into(), vec![4, 2]));
    let error = to_diffusers(&borrowed(&wan)).unwrap_err().to_string();
    assert!(error.starts_with("face_adapter.fuser_blocks.0.linear1_kv.weight: a part of Wan-Animate"), "{error}");
    // Half converted: the new name is taken.
    let mut flux = marks(super::flux::FLUX.diffusers);
    flux.push(("img_in.weight".into(), vec![6, 1]));
    let error = to_original(&borrowed(&flux)).unwrap_err().to_string();
    assert_eq!(error, "img_in.weight: two tensors would be called so");
}

#[test]
fn what_is_not_the_models_keeps_its_name() {
    let mut tensors = marks(qwen::QWEN_IMAGE.original);
    tensors.iter_mut().for_each(|(name, _)| name.insert_str(0, "model.diffusion_model."));
    tensors.push(("vae.decoder.conv_in.weight".into(), vec![4, 4, 3, 3]));
    for mapped in [to_original(&borrowed(&tensors)), to_diffusers(&borrowed(&tensors))] {
        let mapped = mapped.unwrap();
        assert_eq!((mapped.family, mapped.prefix, &mapped.unknown), ("qwen-image", "model.diffusion_model.", &vec![3]));
        assert_eq!(
            mapped.tensors[0],
            Renamed { name: "txt_norm.weight".into(), pieces: vec![Piece { source: 0, rows: 0..6 }] }
        );
    }
}

#[test]
fn unet() {
    fn check(diffusers: &str, original: &str) {
        check_of(&[0, 2, 10], diffusers, original);
    }
    fn check_of(depths: &[usize], diffusers: &str, original: &str) {
        let xl = trips::unet(&[2, 2, 2], depths, true);
        let find =
            |mapped: &Mapped, i: usize| mapped.tensors.iter().find(|t| t.pieces[0].source == i).map(|t| t.name.clone());
        let at = xl.iter().position(|(name, _)| name == diffusers).unwrap_or_else(|| panic!("no {diffusers}"));
        assert_eq!(find(&to_original(&borrowed(&xl)).unwrap(), at).as_deref(), Some(original));
    }
    check("conv_in.weight", "input_blocks.0.0.weight");
    check("add_embedding.linear_2.weight", "label_emb.0.2.weight");
    check("down_blocks.0.downsamplers.0.conv.bias", "input_blocks.3.0.op.bias");
    check("down_blocks.1.resnets.0.time_emb_proj.weight", "input_blocks.4.0.emb_layers.1.weight");
    check(
        "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k.weight",
        "input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight",
    );
    check("mid_block.attentions.0.proj_in.weight", "middle_block.1.proj_in.weight");
    check("mid_block.resnets.1.conv2.weight", "middle_block.2.out_layers.3.weight");
    check("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.2.conv.weight");
    check_of(&[1, 1, 0], "up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight");
    check("up_blocks.2.resnets.2.conv_shortcut.weight", "output_blocks.8.0.skip_connection.weight");
}

#[test]
fn labels_of_a_unet() {
    fn check(text: u64, label: &str, expected: &str) {
        let mut tensors = trips::unet(&[1, 1], &[1, 1], false);
        let mapped = to_original(&borrowed(&tensors)).unwrap();
        tensors = mapped.tensors.into_iter().map(|tensor| (tensor.name, vec![2, text])).collect();
        tensors.push((label.to_owned(), vec![2, 3]));
        let mapped = to_diffusers(&borrowed(&tensors)).unwrap();
        assert_eq!(mapped.tensors.last().unwrap().name, expected, "{text} {label}");
    }
    check(2048, "label_emb.0.0.weight", "add_embedding.linear_1.weight");
    check(1280, "label_emb.0.2.bias", "add_embedding.linear_2.bias");
    check(1024, "label_emb.0.2.weight", "class_embedding.linear_2.weight");
    check(1024, "label_emb.weight", "class_embedding.weight");
}
