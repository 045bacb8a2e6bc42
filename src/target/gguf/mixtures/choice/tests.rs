use super::*;
use Type::*;

fn dense(layers: u64) -> Hyper {
    Hyper { arch: "llama".into(), layers, gqa: 1, experts: 0, seventy: false }
}

fn tensor(name: &str, dims: &[u64]) -> Source {
    Source { name: name.into(), dims: dims.into(), from: F32 }
}

/// The choice for one tensor among a model's.
fn one(model: &Hyper, source: Source, options: &Options) -> Choice {
    let mut tensors = vec![source.clone(), tensor("output.weight", &[256, 512])];
    tensors.dedup();
    choose(model, &tensors, options, &|_| None).expect("a type").remove(0)
}

#[test]
fn reasons_are_for_people() {
    fn check(name: &str, dims: &[u64], mixture: Mixture, ty: Type, kind: Kind, why: &str) {
        let choice = one(&dense(8), tensor(name, dims), &Options::new(mixture));
        assert_eq!(choice, Choice { ty, kind, why: why.into() }, "{name} of {mixture}");
    }
    check("blk.0.attn_q.weight", &[256, 256], Mixture::Q4KM, Q4_K, Kind::Default, "the type of Q4_K_M");
    check(
        "blk.0.attn_v.weight",
        &[256, 256],
        Mixture::Q3KM,
        Q5_K,
        Kind::Mixture,
        "attn_v of Q3_K_M: more bits in the first layers",
    );
    check("blk.0.attn_norm.weight", &[256], Mixture::Q4KM, F32, Kind::Kept, "never quantized: one dimension");
    check("blk.0.attn_norm.weight", &[64, 4], Mixture::Q4KM, F32, Kind::Kept, "never quantized: norm");
    check("blk.0.attn_q.bias", &[64, 4], Mixture::Q4KM, F32, Kind::Kept, "never quantized: not a weight");
    check(
        "blk.0.attn_q.weight",
        &[80, 4],
        Mixture::Q4KM,
        F16,
        Kind::Fallback,
        "fallback from Q4_K: rows of 80 are not whole blocks of 256",
    );
    check("output.weight", &[256, 512], Mixture::Q2K, Q6_K, Kind::Mixture, "output of Q2_K: the output needs its bits");
    check("blk.0.ffn_up_exps.weight", &[64, 64, 4], Mixture::Mxfp4Moe, MXFP4, Kind::Default, "the type of MXFP4_MOE");
    check("output.weight", &[256, 512], Mixture::Copy, F32, Kind::Kept, "COPY leaves every tensor as it is");
}

#[test]
fn options_name_types() {
    let options = Options::new(Mixture::Q4KM);
    let check = |source: &Source, options: &Options, ty: Type, kind: Kind| {
        let choice = one(&dense(8), source.clone(), options);
        assert_eq!((choice.ty, choice.kind), (ty, kind), "{}: {}", source.name, choice.why);
    };
    let output = tensor("output.weight", &[256, 512]);
    check(&output, &Options { leave_output: true, ..options.clone() }, F32, Kind::Kept);
    check(&output, &Options { output_type: Some(Q8_0), ..options.clone() }, Q8_0, Kind::Named);
    check(&output, &Options { pure: true, ..options.clone() }, Q4_K, Kind::Default);
    let embedding = tensor("token_embd.weight", &[288, 512]);
    // llama-quantize aborts here.
    check(&embedding, &Options { embedding_type: Some(Q4_K), ..options.clone() }, Q5_0, Kind::Fallback);
    let float = Options { embedding_type: Some(Q8_0), ..Options::new(Mixture::F16) };
    check(&embedding, &float, Q8_0, Kind::Named);
    check(&tensor("blk.0.attn_q.weight", &[256, 8]), &float, F16, Kind::Default);
}

#[test]
fn a_tied_table_is_the_output_too() {
    let tensors = [tensor("token_embd.weight", &[256, 512])];
    let types = |options: &Options| choose(&dense(8), &tensors, options, &|_| None).expect("types")[0].ty;
    let options = Options::new(Mixture::Q4KM);
    assert_eq!(types(&options), Q6_K);
    assert_eq!(types(&Options { output_type: Some(Q8_0), ..options.clone() }), Q8_0);
    assert_eq!(types(&Options { pure: true, ..options }), Q4_K);
}

#[test]
fn naming_a_type_moves_no_other_tensor() {
    for mixture in [Mixture::Q4KM, Mixture::Q3KM, Mixture::Q4KS, Mixture::Q5KM, Mixture::Iq2M, Mixture::Iq3Xs] {
        let mut tensors: Vec<Source> = (0..32)
            .flat_map(|i| ["attn_v", "ffn_down", "ffn_gate", "ffn_up"].map(|w| format!("blk.{i}.{w}.weight")))
            .map(|name| tensor(&name, &[256, 256]))
            .collect();
        in_order(&mut tensors, |t| &t.name);
        let options = Options::new(mixture);
        let plain = choose(&dense(32), &tensors, &options, &|_| None).expect("types");
        let named = |name: &str| name.starts_with("blk.1.").then(|| Named { ty: Q8_0, by: "a rule".into() });
        let changed = choose(&dense(32), &tensors, &options, &named).expect("types");
        for ((source, before), after) in tensors.iter().zip(&plain).zip(&changed) {
            let expected = if source.name.starts_with("blk.1.") { Q8_0 } else { before.ty };
            assert_eq!(after.ty, expected, "{} of {mixture}", source.name);
        }
    }
}

#[test]
fn what_needs_an_importance_matrix() {
    fn check(name: &str, ty: Type, mixture: Mixture, expected: bool) {
        assert_eq!(requires_imatrix(name, ty, mixture), expected, "{name} {ty} of {mixture}");
    }
    for ty in [IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS] {
        check("blk.0.ffn_up.weight", ty, Mixture::Q4KM, true);
        check("output.weight", ty, Mixture::Q4KM, false);
        check("token_embd.weight", ty, Mixture::Q4KM, false);
    }
    check("blk.0.ffn_up.weight", Q2_K, Mixture::Q2KS, true);
    check("blk.0.ffn_up.weight", Q2_K, Mixture::Q2K, false);
    check("blk.0.ffn_up.weight", IQ3_S, Mixture::Iq3S, false);
    check("blk.0.ffn_up.weight", IQ4_XS, Mixture::Iq4Xs, false);
}

#[test]
fn what_should_not_be_written_is_refused() {
    let quantized = Source { from: Q8_0, ..tensor("blk.0.attn_q.weight", &[256, 256]) };
    let check_one = |source: &Source, options: &Options, entry: bool| {
        let tensors = [source.clone()];
        let choices = choose(&dense(1), &tensors, options, &|_| None).expect("types");
        check(&tensors, &choices, options, &|_| entry)
    };
    let options = Options::new(Mixture::Q4KM);
    assert!(check_one(&quantized, &options, false).is_err());
    assert!(check_one(&quantized, &Options { allow_requantize: true, ..options }, false).is_ok());
    // The bytes stay as they are.
    assert!(check_one(&quantized, &Options::new(Mixture::Q8_0), false).is_ok());
    let plain = tensor("blk.0.attn_q.weight", &[256, 256]);
    let lowest = Options::new(Mixture::Iq2Xs);
    assert!(check_one(&plain, &lowest, false).is_err());
    assert!(check_one(&plain, &lowest, true).is_ok());
}

#[test]
fn tensors_come_in_blocks() {
    let mut names =
        ["blk.10.a", "output.weight", "blk.2.b", "blk.2.a", "token_embd.weight", "enc.blk.1.a", "blk.2x", "Output"];
    in_order(&mut names, |n| n);
    assert_eq!(
        names,
        ["Output", "enc.blk.1.a", "output.weight", "token_embd.weight", "blk.2.a", "blk.2.b", "blk.2x", "blk.10.a"]
    );
    let mut places = [(1, 0), (0, 64), (0, 0)];
    in_shards(&mut places, |p| *p);
    assert_eq!(places, [(0, 0), (0, 64), (1, 0)]);
}

#[test]
fn a_model_is_read_from_its_keys() {
    fn check(arch: &str, keys: &[(&str, u64)], expected: (u64, u64, u64, bool)) {
        let find = |key: &str| {
            let short = key.strip_prefix(arch)?.strip_prefix('.')?;
            keys.iter().find(|(k, _)| *k == short).map(|(_, v)| *v)
        };
        let h = Hyper::read(arch, find);
        assert_eq!((h.layers, h.gqa, h.experts, h.seventy), expected, "{arch} {keys:?}");
    }
    let (b, h, k, e) = ("block_count", "attention.head_count", "attention.head_count_kv", "expert_count");
    check("llama", &[(b, 80), (h, 64), (k, 8)], (80, 8, 0, true));
    check("llama", &[(b, 80), (h, 64)], (80, 1, 0, false));
    check("llama", &[(b, 80), (h, 64), (k, 8), (e, 8)], (80, 8, 8, false));
    check("qwen2", &[(b, 80), (h, 64), (k, 64)], (80, 1, 0, true));
    check("jais2", &[(b, 68), (h, 64), (k, 64)], (68, 1, 0, true));
    check("qwen3", &[(b, 80), (h, 64), (k, 8)], (80, 8, 0, false));
    check("mamba", &[(b, 24), (h, 0)], (24, 0, 0, false));
    check("nanbeige", &[(b, 8), (h, 8), (k, 2), ("num_loops", 2)], (16, 4, 0, false));
    check("graniteswitch", &[(b, 40), (h, 32), (k, 8)], (41, 4, 0, false));
    check("flux", &[], (0, 1, 0, false));
}
