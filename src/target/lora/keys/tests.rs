use proptest::prelude::*;

use super::*;

/// Paths, kinds and sizes of the modules of a file; arrays are `name` or `name [shape]` (2 × 2 if none is said).
fn parsed(arrays: &[&str]) -> Keys {
    let split = |array: &&str| match array.split_once(' ') {
        Some((name, shape)) => (name.to_owned(), serde_json::from_str(shape).unwrap()),
        None => ((*array).to_owned(), vec![2, 2]),
    };
    let named: Vec<(String, Vec<u64>)> = arrays.iter().map(split).collect();
    parse(&named.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect::<Vec<_>>())
}

#[test]
fn names_of_every_style() {
    fn check(arrays: &[&str], path: &str, kind: Kind) {
        let keys = parsed(arrays);
        let found: Vec<_> = keys.modules.iter().map(|m| (m.path.as_str(), m.kind)).collect();
        assert_eq!((&found[..], &keys.unknown[..]), (&[(path, kind)][..], &[][..]), "{arrays:?}");
        let used: usize = keys.modules.iter().map(|m| m.arrays.len()).sum();
        assert_eq!(used, arrays.len(), "{arrays:?}");
    }
    let qkv = "lora_unet_double_blocks_0_img_attn_qkv";
    check(
        &[&format!("{qkv}.lora_down.weight"), &format!("{qkv}.lora_up.weight"), &format!("{qkv}.alpha []")],
        qkv,
        Kind::Lora,
    );
    check(
        &["lora_te1_a.lora_down.weight", "lora_te1_a.lora_up.weight", "lora_te1_a.dora_scale"],
        "lora_te1_a",
        Kind::Lora,
    );
    check(&["a.lora_down.weight", "a.lora_mid.weight [2, 2, 3, 3]", "a.lora_up.weight"], "a", Kind::Lora);
    // PEFT, with and without the adapter's name.
    let peft = "base_model.model.layers.0.q_proj";
    check(&[&format!("{peft}.lora_A.weight"), &format!("{peft}.lora_B.weight")], peft, Kind::Lora);
    check(
        &["transformer.a.to_q.lora_A.default.weight", "transformer.a.to_q.lora_B.default.weight"],
        "transformer.a.to_q",
        Kind::Lora,
    );
    check(&["a.lora_A.style.weight", "a.lora_B.style.weight"], "a", Kind::Lora);
    check(&["a.lora_A", "a.lora_B"], "a", Kind::Lora);
    check(&["a.lora_A.weight", "a.lora_B.weight", "a.lora_magnitude_vector [2]"], "a", Kind::Lora);
    check(&["a.lora_A.weight", "a.lora_B.weight", "a.lora_magnitude_vector.default.weight [2]"], "a", Kind::Lora);
    check(&["a.lora_A.weight", "a.lora_B.weight", "a.lora_B.bias [2]"], "a", Kind::Lora);
    check(&["a.wte.lora_embedding_A", "a.wte.lora_embedding_B"], "a.wte", Kind::Embedding);
    check(&["base_model.model.score.weight"], "base_model.model.score.weight", Kind::Set);
    check(&["base_model.model.embed.base_layer.weight"], "base_model.model.embed.weight", Kind::Set);
    // Old diffusers.
    check(&["unet.a.lora.down.weight", "unet.a.lora.up.weight"], "unet.a", Kind::Lora);
    check(
        &["text_encoder.a.lora_linear_layer.down.weight", "text_encoder.a.lora_linear_layer.up.weight"],
        "text_encoder.a",
        Kind::Lora,
    );
    check(
        &["unet.a.attn1.processor.to_q_lora.down.weight", "unet.a.attn1.processor.to_q_lora.up.weight"],
        "unet.a.attn1.processor.to_q",
        Kind::Lora,
    );
    // XLabs.
    check(
        &["double_blocks.0.processor.qkv_lora1.down.weight", "double_blocks.0.processor.qkv_lora1.up.weight"],
        "double_blocks.0.processor.qkv_lora1",
        Kind::Lora,
    );
    // ComfyUI.
    check(&["diffusion_model.a.diff", "diffusion_model.a.diff_b [2]"], "diffusion_model.a", Kind::Diff);
    check(&["diffusion_model.a.diff_b [2]"], "diffusion_model.a", Kind::Bias);
    check(&["diffusion_model.a.set_weight"], "diffusion_model.a", Kind::Set);
    check(&["diffusion_model.a.lora_up.weight", "diffusion_model.a.lora_down.weight"], "diffusion_model.a", Kind::Lora);
    check(&["lora_unet_norm.w_norm [2]", "lora_unet_norm.b_norm [2]"], "lora_unet_norm", Kind::Diff);
    // LyCORIS, and PEFT's rendering of it.
    check(&["a.hada_w1_a", "a.hada_w1_b", "a.hada_w2_a", "a.hada_w2_b", "a.alpha [1]"], "a", Kind::Loha);
    check(
        &[
            "a.hada_t1 [2, 2, 3, 3]",
            "a.hada_t2 [2, 2, 3, 3]",
            "a.hada_w1_a",
            "a.hada_w1_b",
            "a.hada_w2_a",
            "a.hada_w2_b",
        ],
        "a",
        Kind::Loha,
    );
    check(
        &["a.hada_w1_a.default", "a.hada_w1_b.default", "a.hada_w2_a.default", "a.hada_w2_b.default"],
        "a",
        Kind::Loha,
    );
    check(&["a.lokr_w1", "a.lokr_w2", "a.alpha []"], "a", Kind::Lokr);
    check(&["a.lokr_w1_a", "a.lokr_w1_b", "a.lokr_w2_a", "a.lokr_w2_b", "a.dora_scale"], "a", Kind::Lokr);
    check(&["a.lokr_w1", "a.lokr_w2_a", "a.lokr_w2_b", "a.lokr_t2 [2, 2, 3, 3]"], "a", Kind::Lokr);
}

#[test]
fn sizes_of_changes() {
    fn check(arrays: &[&str], shape: (u64, u64)) {
        let keys = parsed(arrays);
        assert_eq!(keys.modules.iter().map(|m| m.shape).collect::<Vec<_>>(), [shape], "{arrays:?} {:?}", keys.unknown);
    }
    check(&["a.lora_up.weight [30, 4]", "a.lora_down.weight [4, 20]"], (30, 20));
    check(&["a.lora_up.weight [30, 4, 1, 1]", "a.lora_down.weight [4, 20, 3, 3]"], (30, 180));
    check(
        &["a.lora_up.weight [30, 4, 1, 1]", "a.lora_down.weight [4, 20, 1, 1]", "a.lora_mid.weight [4, 4, 3, 3]"],
        (30, 180),
    );
    check(&["a.lora_embedding_A [4, 1000]", "a.lora_embedding_B [20, 4]"], (1000, 20));
    check(&["a.hada_w1_a [30, 4]", "a.hada_w1_b [4, 20]", "a.hada_w2_a [30, 4]", "a.hada_w2_b [4, 20]"], (30, 20));
    check(
        &[
            "a.hada_w1_a [4, 30]",
            "a.hada_w1_b [4, 20]",
            "a.hada_w2_a [4, 30]",
            "a.hada_w2_b [4, 20]",
            "a.hada_t1 [4, 4, 3, 3]",
            "a.hada_t2 [4, 4, 3, 3]",
        ],
        (30, 180),
    );
    check(&["a.lokr_w1 [5, 4]", "a.lokr_w2 [6, 5, 3, 3]"], (30, 180));
    check(&["a.lokr_w1 [5, 4]", "a.lokr_w2_a [6, 2]", "a.lokr_w2_b [2, 45]"], (30, 180));
    check(
        &[
            "a.lokr_w1_a [5, 2]",
            "a.lokr_w1_b [2, 4]",
            "a.lokr_w2_a [2, 6]",
            "a.lokr_w2_b [2, 5]",
            "a.lokr_t2 [2, 2, 3, 3]",
        ],
        (30, 180),
    );
    check(&["a.diff [30, 20, 3, 3]"], (30, 180));
    check(&["a.diff [30]"], (30, 1));
    check(&["a.diff []"], (1, 1));
}

#[test]
fn one_layer_may_have_several_adapters() {
    let keys = parsed(&["a.lora_A.one.weight", "a.lora_A.two.weight", "a.lora_B.one.weight", "a.lora_B.two.weight"]);
    let arrays: Vec<_> = keys.modules.iter().map(|m| (m.array(Role::Down), m.array(Role::Up))).collect();
    assert_eq!(arrays, [(Some(0), Some(2)), (Some(1), Some(3))]);
}

#[test]
fn control_adapters_bring_scales() {
    let arrays = ["img_in.lora_A.weight", "img_in.lora_B.weight", "single_blocks.0.norm.key_norm.scale [2]"];
    let keys = parsed(&arrays);
    assert_eq!(keys.modules[1].path, "single_blocks.0.norm.key_norm.scale");
    assert_eq!((keys.modules[1].kind, keys.unknown.len()), (Kind::Set, 0));
    assert_eq!(parsed(&arrays[2..]).unknown.len(), 1);
}

#[test]
fn nothing_is_dropped_silently() {
    fn check(arrays: &[&str], expected: &[(usize, &str)]) {
        let unknown: Vec<_> = parsed(arrays).unknown.iter().map(|u| (u.key, u.why)).collect();
        assert_eq!(unknown, expected, "{arrays:?}");
    }
    check(&["a.lora_A.weight", "a.lora_B.weight", "logit_scale []"], &[(2, "not the name of an adapter's array")]);
    check(&["a.lora_A.weight"], &[(0, "only one of the two factors of a LoRA")]);
    check(&["a.lora_A.bias", "a.lora_A.weight", "a.lora_B.weight"], &[(0, "not the name of an adapter's array")]);
    check(&["a.alpha []"], &[(0, "nothing that changes a weight goes with it")]);
    check(
        &["a.hada_w1_a", "a.hada_w1_b"],
        &[(0, "some of the four factors of a LoHa are missing"), (1, "some of the four factors of a LoHa are missing")],
    );
    check(&["a.lokr_w1"], &[(0, "some of the factors of a LoKr are missing")]);
    check(
        &["a.lora_A.weight", "a.lora_down.weight", "a.lora_B.weight"],
        &[(1, "the layer has another array of this kind")],
    );
    check(&["a.lora_A.weight", "a.lora_B.weight", "a.diff"], &[(2, "the layer is already changed in another way")]);
    check(
        &["a.lora_A.weight", "a.lora_B.weight", "a.lora_magnitude_vector", "a.dora_scale"],
        &[(3, "the layer is already changed in another way")],
    );
    check(&["a.lora_A.weight []", "a.lora_B.weight"], &[(0, MALFORMED), (1, MALFORMED)]);
    let adaptive = "an AdaLoRA adapter: not supported";
    check(&["a.lora_A", "a.lora_B", "a.lora_E"], &[(0, adaptive), (1, adaptive), (2, adaptive)]);
    check(&["a.oft_blocks"], &[(0, "an orthogonal adapter (OFT, BOFT): it cannot be merged row by row")]);
    check(&["a.b1.weight"], &[(0, "a GLoRA adapter: not supported")]);
    check(&["a.reshape_weight"], &[(0, "the adapter changes the shape of the layer: not supported")]);
    check(
        &[".lora_A.weight", ".lora_B.weight"],
        &[(0, "not the name of an adapter's array"), (1, "not the name of an adapter's array")],
    );
    let huge = "a.lora_A.weight [4294967296, 4294967296, 4294967296]";
    check(&[huge, "a.lora_B.weight"], &[(0, MALFORMED), (1, MALFORMED)]);
}

proptest! {
    #[test]
    fn every_array_is_in_a_module_or_in_the_list(
        names in proptest::collection::vec(
            prop_oneof![
                concat!(
                    r"(a|b_c|lora_unet_x|base_model\.model\.d)\.",
                    "(lora_A|lora_B|lora_down|lora_up|alpha|diff|diff_b|hada_w1_a|lokr_w1|lokr_w2|dora_scale)",
                    r"(\.weight|\.bias|\.x\.weight|)",
                ),
                r"\PC{0,12}",
                "[._a]{0,6}(weight|lora_A|up|down)?",
            ],
            0..12,
        ),
        shape in proptest::collection::vec(0u64..4, 0..5),
    ) {
        let arrays: Vec<(&str, &[u64])> = names.iter().map(|n| (n.as_str(), shape.as_slice())).collect();
        let keys = parse(&arrays);
        let of_modules = keys.modules.iter().flat_map(|m| m.arrays.iter().map(|(_, i)| *i));
        let mut all: Vec<usize> = of_modules.chain(keys.unknown.iter().map(|u| u.key)).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..names.len()).collect::<Vec<_>>());
    }
}
