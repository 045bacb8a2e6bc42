use super::super::architectures::{ALL, named};
use super::*;

fn source(name: &str, dims: &[u64], from: Type) -> Source {
    Source { name: name.into(), dims: dims.to_vec(), from }
}

fn chosen(arch: &str, mixture: &str, sources: &[Source], by_hand: Option<Type>) -> Vec<Choice> {
    let options = Options::new(M::parse(mixture).expect(mixture));
    let by_hand = |_: &str| by_hand.map(|ty| Named { ty, by: "a rule".into() });
    choose(named(arch).expect(arch), sources, &options, &|_| None, &by_hand)
}

#[test]
fn each_architecture_keeps_what_goes_in_and_out() {
    fn check(arch: &str, name: &str, dims: &[u64], expected: Type) {
        let chosen = chosen(arch, "Q4_0", &[source(name, dims, BF16)], None);
        assert_eq!(chosen[0].ty, expected, "{arch}: {name}: {}", chosen[0].why);
    }
    const MATRIX: &[u64] = &[512, 512];
    check("flux", "img_in.weight", MATRIX, BF16);
    check("flux", "time_in.in_layer.weight", MATRIX, BF16);
    check("flux", "final_layer.linear.weight", MATRIX, BF16);
    check("flux", "double_blocks.0.img_mod.lin.weight", MATRIX, Q4_0);
    check("flux", "double_blocks.0.img_mod.lin.bias", &[512], BF16);
    check("sd3", "pos_embed", &[64, 36, 1], BF16);
    check("sd3", "x_embedder.proj.weight", &[2, 2, 16, 64], BF16);
    check("sd3", "joint_blocks.0.x_block.mlp.fc1.weight", MATRIX, Q4_0);
    check("sd3", "context_embedder.weight", MATRIX, BF16);
    check("aura", "modF.1.weight", MATRIX, BF16);
    check("aura", "double_layers.0.modC.1.weight", MATRIX, Q4_0);
    check("hidream", "double_stream_blocks.0.block.ff_i.gate.weight", MATRIX, BF16);
    check("cosmos", "blocks.0.mlp.layer1.weight", MATRIX, Q4_0);
    check("cosmos", "t_embedder.1.linear_1.weight", MATRIX, BF16);
    check("ltxv", "transformer_blocks.0.scale_shift_table", MATRIX, BF16);
    check("ltxv", "transformer_blocks.0.attn1.to_q.weight", MATRIX, Q4_0);
    check("hyvid", "txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight", MATRIX, BF16);
    check("wan", "head.head.weight", MATRIX, BF16);
    check("wan", "blocks.0.self_attn.q.weight", MATRIX, Q4_0);
    check("sdxl", "label_emb.0.0.weight", MATRIX, BF16);
    check("sdxl", "input_blocks.4.1.proj_in.weight", MATRIX, Q4_0);
    check("sd1", "input_blocks.0.0.weight", &[256, 45], BF16);
    check("sd1", "input_blocks.1.0.in_layers.2.weight", &[256, 45], Q4_0);
    check("lumina2", "noise_refiner.0.attention.qkv.weight", MATRIX, BF16);
    check("lumina2", "layers.0.attention.qkv.weight", MATRIX, Q4_0);
    check("qwen_image", "transformer_blocks.0.img_mlp.net.0.proj.weight", MATRIX, Q4_0);
    check("qwen_image", "img_in.weight", MATRIX, BF16);
}

#[test]
fn mixtures_give_some_weights_other_bits() {
    fn check(name: &str, expected: &[(&str, Type)]) {
        for (mixture, expected) in expected {
            let chosen = chosen("wan", mixture, &[source(name, &[512, 512], F16)], None);
            assert_eq!(chosen[0].ty, *expected, "{name} in {mixture}");
            assert_eq!(chosen[0].kind == Kind::Mixture, M::parse(mixture).expect("one").default_type() != *expected);
        }
    }
    check(
        "blocks.0.self_attn.v.weight",
        &[
            ("Q2_K", Q3_K),
            ("Q3_K_S", Q3_K),
            ("Q3_K_M", Q5_K),
            ("Q3_K_L", Q5_K),
            ("Q4_K_S", Q5_K),
            ("Q4_K_M", Q6_K),
            ("Q5_K_S", Q5_K),
            ("Q5_K_M", Q6_K),
            ("Q4_0", Q4_0),
            ("Q8_0", Q8_0),
        ],
    );
    check(
        "double_blocks.0.img_attn.qkv.weight",
        &[("Q2_K", Q2_K), ("Q3_K_M", Q4_K), ("Q3_K_L", Q4_K), ("Q4_K_S", Q4_K), ("Q4_K_M", Q5_K), ("Q5_K_M", Q6_K)],
    );
    check(
        "blocks.0.ffn.2.weight",
        &[
            ("Q2_K", Q2_K),
            ("Q3_K_M", Q4_K),
            ("Q3_K_L", Q5_K),
            ("Q4_K_S", Q5_K),
            ("Q4_K_M", Q6_K),
            ("Q5_K_M", Q6_K),
            ("Q4_0", Q4_1),
            ("Q5_0", Q5_1),
        ],
    );
    check("blocks.0.ffn.0.weight", &[("Q4_K_M", Q4_K), ("Q4_0", Q4_0), ("F16", F16)]);
}

#[test]
fn the_first_values_get_more_bits() {
    fn check(mixture: &str, expected: &[Type]) {
        let sources: Vec<Source> =
            (0..6).map(|i| source(&format!("blocks.{i}.cross_attn.v.weight"), &[256, 64], F16)).collect();
        let types: Vec<Type> = chosen("wan", mixture, &sources, None).iter().map(|c| c.ty).collect();
        assert_eq!(types, expected, "{mixture}");
    }
    check("Q3_K_M", &[Q5_K, Q5_K, Q4_K, Q4_K, Q4_K, Q4_K]);
    check("Q4_K_S", &[Q5_K, Q5_K, Q5_K, Q5_K, Q4_K, Q4_K]);
}

#[test]
fn rows_that_do_not_fit_become_halves() {
    fn check(mixture: &str, cols: u64, expected: Type) {
        let chosen = chosen("flux", mixture, &[source("single_blocks.0.linear1.weight", &[cols, 9], BF16)], None);
        assert_eq!((chosen[0].ty, chosen[0].kind == Kind::Fallback), (expected, expected == F16), "{mixture} {cols}");
    }
    check("Q4_K_M", 288, F16);
    check("Q6_K", 512, Q6_K);
    check("Q8_0", 288, Q8_0);
    check("Q8_0", 40, F16);
}

#[test]
fn a_person_names_any_type_but_not_of_what_is_never_quantized() {
    let sources = [source("single_blocks.0.linear1.weight", &[256, 8], BF16), source("img_in.weight", &[256, 8], BF16)];
    let chosen = chosen("flux", "Q4_K_M", &sources, Some(IQ4_XS));
    assert_eq!(chosen.iter().map(|c| (c.ty, c.kind)).collect::<Vec<_>>(), [(IQ4_XS, Kind::Named), (BF16, Kind::Kept)]);
    assert_eq!(chosen[0].why, "a rule");
    assert_eq!(chosen[1].why, "never quantized: `img_in` of flux");
}

#[test]
fn pure_leaves_the_mixture_out() {
    let options = Options { pure: true, ..Options::new(M::Q4KM) };
    let sources = [source("blocks.0.self_attn.v.weight", &[256, 8], BF16)];
    let chosen = choose(named("wan").expect("wan"), &sources, &options, &|_| None, &|_| None);
    assert_eq!(chosen[0].ty, Q4_K);
}

#[test]
fn rules_speak_of_the_original_names() {
    let judged = |name: &str| (name == "x_embedder.weight").then(|| "img_in.weight".to_owned());
    let sources = [source("x_embedder.weight", &[256, 8], BF16)];
    let chosen = choose(named("flux").expect("flux"), &sources, &Options::new(M::Q8_0), &judged, &|_| None);
    assert_eq!(chosen[0].kind, Kind::Kept);
}

#[test]
fn mixtures_that_no_reader_takes_are_refused() {
    for mixture in M::ALL {
        let refused = ["IQ", "MXFP4", "Q1_0", "Q2_0"].iter().any(|word| mixture.name().starts_with(word));
        for architecture in &ALL {
            let found = check(architecture, *mixture);
            assert_eq!(found.is_err(), refused, "{mixture}");
            if let Err(e) = found {
                let message = e.to_string();
                assert!(message.contains(architecture.name) && message.contains(mixture.name()), "{message}");
            }
        }
    }
}
