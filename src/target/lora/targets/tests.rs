use proptest::prelude::*;

use super::*;

fn module(path: &str, kind: Kind, shape: (u64, u64), bias: Option<u64>) -> Module {
    Module { path: path.to_owned(), kind, arrays: Vec::new(), shape, bias }
}

fn lora(path: &str, shape: (u64, u64)) -> Module {
    module(path, Kind::Lora, shape, None)
}

fn base<'a>(tensors: &[(&'a str, &'a [u64])]) -> Vec<Base<'a>> {
    tensors.iter().map(|(name, shape)| Base { name, shape, transposed: false }).collect()
}

/// Flux's, in the names of its original code: one layer of each kind.
const ORIGINAL: [(&str, &[u64]); 5] = [
    ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", &[36, 12]),
    ("model.diffusion_model.double_blocks.0.img_attn.qkv.bias", &[36]),
    ("model.diffusion_model.single_blocks.0.linear1.weight", &[84, 12]),
    ("model.diffusion_model.double_blocks.0.img_attn.norm.query_norm.scale", &[4]),
    ("model.diffusion_model.final_layer.adaLN_modulation.1.weight", &[24, 12]),
];

fn other(name: &str, pieces: &[(usize, Range<usize>, Range<usize>)]) -> Other {
    let piece = |(tensor, rows, other): &(usize, Range<usize>, Range<usize>)| Piece {
        tensor: *tensor,
        rows: rows.clone(),
        other: other.clone(),
    };
    Other { name: name.to_owned(), pieces: pieces.iter().map(piece).collect() }
}

/// The same in diffusers' names.
fn diffusers() -> Vec<Other> {
    vec![
        other("transformer_blocks.0.attn.to_q.weight", &[(0, 0..12, 0..12)]),
        other("transformer_blocks.0.attn.to_k.weight", &[(0, 12..24, 0..12)]),
        other("transformer_blocks.0.attn.to_k.bias", &[(1, 12..24, 0..12)]),
        other("single_transformer_blocks.0.proj_mlp.weight", &[(2, 36..84, 0..48)]),
        // The halves change places.
        other("norm_out.linear.weight", &[(4, 12..24, 0..12), (4, 0..12, 12..24)]),
    ]
}

/// Tensor, its rows, rows of the change.
fn weights(targets: &Targets) -> Vec<(usize, Range<usize>, Range<usize>)> {
    let of = |(tensor, updates): (usize, &Vec<Update>)| {
        updates.iter().map(|u| (tensor, u.rows.clone(), u.delta.clone())).collect::<Vec<_>>()
    };
    targets.updates.iter().enumerate().flat_map(of).collect()
}

#[test]
fn layers_by_either_layouts_names() {
    fn check(path: &str, shape: (u64, u64), expected: &[(usize, Range<usize>, Range<usize>)]) {
        let found = find(&[lora(path, shape)], &base(&ORIGINAL), &diffusers());
        assert_eq!(weights(&found), expected, "{path} {:?}", found.unmatched);
        assert!(found.unmatched.is_empty());
    }
    let qkv = [(0, 0..36, 0..36)];
    check("lora_unet_double_blocks_0_img_attn_qkv", (36, 12), &qkv);
    check("diffusion_model.double_blocks.0.img_attn.qkv", (36, 12), &qkv);
    check("transformer.double_blocks.0.img_attn.qkv", (36, 12), &qkv);
    check("double_blocks.0.img_attn.qkv", (36, 12), &qkv);
    check("model.diffusion_model.double_blocks.0.img_attn.qkv", (36, 12), &qkv);
    check("base_model.model.double_blocks.0.img_attn.qkv", (36, 12), &qkv);
    check("double_blocks.0.processor.qkv_lora1", (36, 12), &qkv);
    check("transformer.transformer_blocks.0.attn.to_q", (12, 12), &[(0, 0..12, 0..12)]);
    check("transformer.transformer_blocks.0.attn.to_k", (12, 12), &[(0, 12..24, 0..12)]);
    check("lora_transformer_transformer_blocks_0_attn_to_k", (12, 12), &[(0, 12..24, 0..12)]);
    check("lycoris_transformer_blocks_0_attn_to_k", (12, 12), &[(0, 12..24, 0..12)]);
    check("transformer.single_transformer_blocks.0.proj_mlp", (48, 12), &[(2, 36..84, 0..48)]);
    check("transformer.norm_out.linear", (24, 12), &[(4, 12..24, 0..12), (4, 0..12, 12..24)]);
    // Only queries, keys and values of a layer that is fused with more.
    check("single_blocks.0.processor.qkv_lora", (36, 12), &[(2, 0..36, 0..36)]);
    check("diffusion_model.single_blocks.0.linear1_qkv", (36, 12), &[(2, 0..36, 0..36)]);
}

#[test]
fn a_fused_adapter_of_split_tensors() {
    let split: [(&str, &[u64]); 3] = [
        ("transformer_blocks.0.attn.to_q.weight", &[12, 12]),
        ("transformer_blocks.0.attn.to_k.weight", &[12, 12]),
        ("transformer_blocks.0.attn.to_v.weight", &[12, 12]),
    ];
    let pieces = [(0, 0..12, 0..12), (1, 0..12, 12..24), (2, 0..12, 24..36)];
    let others = [other("double_blocks.0.img_attn.qkv.weight", &pieces)];
    for path in ["lora_unet_double_blocks_0_img_attn_qkv", "diffusion_model.double_blocks.0.img_attn.qkv"] {
        let found = find(&[lora(path, (36, 12))], &base(&split), &others);
        assert_eq!(weights(&found), pieces, "{path}");
    }
    // XLabs has the first rows of a layer that diffusers splits.
    let mut linear1 = pieces.to_vec();
    linear1.push((3, 0..48, 36..84));
    let tensors = [split.to_vec(), vec![("single_transformer_blocks.0.proj_mlp.weight", &[48, 12][..])]].concat();
    let others = [other("single_blocks.0.linear1.weight", &linear1)];
    let found = find(&[lora("single_blocks.0.processor.qkv_lora", (36, 12))], &base(&tensors), &others);
    assert_eq!(weights(&found), pieces);
}

#[test]
fn biases_and_whole_parameters() {
    let modules = [
        module("diffusion_model.double_blocks.0.img_attn.qkv", Kind::Diff, (36, 12), Some(36)),
        module("lora_unet_double_blocks_0_img_attn_qkv", Kind::Bias, (0, 0), Some(36)),
        module("transformer_blocks.0.attn.to_k", Kind::Bias, (0, 0), Some(12)),
        module("double_blocks.0.img_attn.norm.query_norm.scale", Kind::Set, (4, 1), None),
    ];
    let found = find(&modules, &base(&ORIGINAL), &diffusers());
    assert_eq!(found.unmatched, []);
    let fields =
        |tensor: usize| found.updates[tensor].iter().map(|u| (u.module, u.field, u.rows.clone())).collect::<Vec<_>>();
    assert_eq!(fields(0), [(0, Field::Weight, 0..36)]);
    assert_eq!(fields(1), [(0, Field::Bias, 0..36), (1, Field::Bias, 0..36), (2, Field::Bias, 12..24)]);
    assert_eq!(fields(3), [(3, Field::Weight, 0..4)]);
}

#[test]
fn replacements_come_first() {
    let path = "base_model.model.head";
    let modules =
        [lora(path, (4, 4)), module("base_model.model.head.weight", Kind::Set, (4, 4), None), lora(path, (4, 4))];
    let found = find(&modules, &base(&[("head.weight", &[4, 4])]), &[]);
    assert_eq!(found.updates[0].iter().map(|u| u.module).collect::<Vec<_>>(), [1, 0, 2]);
}

#[test]
fn convolutions_are_flattened() {
    let base = base(&[("proj_in.weight", &[8, 4, 1, 1]), ("conv.weight", &[8, 4, 3, 3])]);
    let found = find(&[lora("unet.proj_in", (8, 4)), lora("unet.conv", (8, 36))], &base, &[]);
    assert_eq!(weights(&found), [(0, 0..8, 0..8), (1, 0..8, 0..8)]);
}

#[test]
fn layers_that_lie_transposed() {
    let mut base = base(&[("h.0.mlp.c_fc.weight", &[8, 32])]);
    base[0].transposed = true;
    let found = find(&[lora("base_model.model.h.0.mlp.c_fc", (32, 8))], &base, &[]);
    assert_eq!(weights(&found), [(0, 0..8, 0..8)]);
    // Of what has no columns to become rows, nothing is turned.
    base[0] = Base { name: "h.0.mlp.c_fc.bias", shape: &[1, 0], transposed: true };
    let found = find(&[module("h.0.mlp.c_fc", Kind::Lora, (32, 8), Some(0))], &base, &[]);
    assert!(weights(&found).is_empty());
}

#[test]
fn what_is_for_another_part_is_counted_apart() {
    fn check(
        paths: &[&str],
        tensors: &[(&str, &[u64])],
        (matched, text_encoder, model, unmatched): (usize, usize, usize, usize),
    ) {
        let modules: Vec<Module> = paths.iter().map(|path| lora(path, (4, 4))).collect();
        let found = find(&modules, &base(tensors), &[]);
        let counts = (weights(&found).len(), found.text_encoder, found.model, found.unmatched.len());
        assert_eq!(counts, (matched, text_encoder, model, unmatched), "{paths:?}");
    }
    let paths = [
        "lora_unet_blocks_0_q",
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
        "lora_te2_text_model_encoder_layers_9_mlp_fc1",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    ];
    let model: (&str, &[u64]) = ("blocks.0.q.weight", &[4, 4]);
    let encoder: (&str, &[u64]) = ("text_model.encoder.layers.0.mlp.fc1.weight", &[4, 4]);
    let comfy: (&str, &[u64]) =
        ("conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight", &[4, 4]);
    check(&paths, &[model], (1, 3, 0, 0));
    check(&paths, &[encoder], (2, 1, 1, 0));
    check(&paths, &[("model.diffusion_model.blocks.0.q.weight", &[4, 4]), comfy], (3, 1, 0, 0));
    // Another encoder's layer of the same name has another shape.
    check(&paths, &[model, ("text_model.encoder.layers.0.mlp.fc1.weight", &[8, 8])], (1, 3, 0, 0));
    // An adapter of which nothing fits is for another model, not for another part.
    check(&paths[..1], &[encoder], (0, 0, 0, 1));
}

#[test]
fn why_a_layer_is_not_matched() {
    fn check(path: &str, shape: (u64, u64), why: Why) {
        let found = find(&[lora(path, shape)], &base(&ORIGINAL), &diffusers());
        assert_eq!(found.unmatched, [Unmatched { module: 0, field: Field::Weight, why }]);
        assert!(weights(&found).is_empty());
    }
    let qkv = ORIGINAL[0].0.to_owned();
    check("lora_unet_double_block_0_img_attn_qkv", (36, 12), Why::Name(Some(qkv.clone())));
    check("diffusion_model.double_blocks.19.img_attn.qkv", (36, 12), Why::Name(Some(qkv.clone())));
    check("down_blocks.0.resnets.0.conv1", (36, 12), Why::Name(None));
    let shape = |name: String, expected| Why::Shape { name, expected, found: (36, 16) };
    check("diffusion_model.double_blocks.0.img_attn.qkv", (36, 16), shape(qkv, (36, 12)));
    let to_q = "transformer_blocks.0.attn.to_q.weight".to_owned();
    check("transformer.transformer_blocks.0.attn.to_q", (36, 16), shape(to_q, (12, 12)));
}

#[test]
fn a_layer_has_all_of_its_rows_or_is_another() {
    let found = find(&[lora("double_blocks.0.img_attn.qkv", (24, 12))], &base(&ORIGINAL), &diffusers());
    assert!(weights(&found).is_empty());
    let why = Why::Shape { name: ORIGINAL[0].0.to_owned(), expected: (36, 12), found: (24, 12) };
    assert_eq!(found.unmatched[0].why, why);
}

#[test]
fn of_names_that_underscores_make_the_same_the_shape_decides() {
    let base = base(&[("a.b_c.weight", &[4, 4]), ("a_b.c.weight", &[8, 4])]);
    let found = find(&[lora("lora_unet_a_b_c", (8, 4)), lora("lora_unet_a_b_c", (4, 4))], &base, &[]);
    assert_eq!(weights(&found), [(0, 0..4, 0..4), (1, 0..8, 0..8)]);
}

#[test]
fn pieces_outside_of_the_model_are_passed_over() {
    let others = [
        other("a.weight", &[(0, 30..42, 0..12)]),
        other("b.weight", &[(9, 0..12, 0..12)]),
        other("c.weight", &[(0, 0..12, 0..24)]),
    ];
    for path in ["a", "b", "c"] {
        let found = find(&[lora(path, (12, 12))], &base(&ORIGINAL), &others);
        assert!(weights(&found).is_empty() && found.unmatched.len() == 1, "{path}");
    }
}

proptest! {
    #[test]
    fn updates_lie_within_both(
        names in proptest::collection::vec(
            prop_oneof![
                r"(unet\.|model\.|transformer\.|)[ab](\.to_out|\.processor\.qkv_lora|\.linear1|)(\.0|)",
                "(lora_unet_|lora_te_)[ab](_0|)",
                r"\PC{0,8}",
            ],
            0..6,
        ),
        tensors in proptest::collection::vec(
            (r"(model\.|)[ab](\.to_out|\.linear1|)(\.0|)\.(weight|bias)", proptest::collection::vec(0u64..4, 0..4)),
            0..6,
        ),
        pieces in proptest::collection::vec((0usize..7, 0usize..4, 0usize..4, 0usize..4), 0..4),
        shape in (0u64..4, 0u64..4), bias in proptest::option::of(0u64..4), transposed: bool,
    ) {
        let kinds = [Kind::Lora, Kind::Set, Kind::Bias].into_iter().cycle();
        let modules: Vec<Module> = names.iter().zip(kinds).map(|(n, kind)| module(n, kind, shape, bias)).collect();
        let base: Vec<Base> = tensors.iter().map(|(name, shape)| Base { name, shape, transposed }).collect();
        let piece = |(tensor, start, other, rows)| (tensor, start..start + rows, other..other + rows);
        let pieces: Vec<_> = pieces.into_iter().map(piece).collect();
        let found = find(&modules, &base, &[other("a.weight", &pieces)]);
        prop_assert_eq!(found.updates.len(), base.len());
        for (tensor, updates) in base.iter().zip(&found.updates) {
            for update in updates {
                let rows = tensor.shape.first().copied().unwrap_or(1) as usize;
                prop_assert!(update.rows.end <= rows && update.rows.len() == update.delta.len());
                let module = &modules[update.module];
                let turned = transposed && tensor.shape.len() == 2 && module.kind == Kind::Lora;
                let limit = match update.field {
                    Field::Bias => module.bias.unwrap_or_default(),
                    Field::Weight if turned => module.shape.1,
                    Field::Weight => module.shape.0,
                };
                prop_assert!(update.delta.end as u64 <= limit);
            }
        }
    }
}
