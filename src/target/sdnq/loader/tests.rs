//! sdnq's own reading of configs and layouts.
use super::*;
use serde_json::json;

fn config(value: Value) -> Config {
    Config::parse(&value).expect("a config")
}

#[test]
fn a_wrong_type_is_said_with_its_key() {
    fn check(value: Value, part: &str) {
        let message = Config::parse(&value).expect_err(part).to_string();
        assert!(message.contains(part), "{message}");
    }
    check(json!([]), "not an object");
    check(json!({"group_size": "64"}), "`group_size`");
    check(json!({"use_svd": "yes"}), "`use_svd`");
    check(json!({"svd_rank": -1}), "`svd_rank`");
    check(json!({"weights_dtype": 8}), "`weights_dtype`");
    check(json!({"modules_to_not_convert": [1]}), "`modules_to_not_convert`");
    check(json!({"modules_dtype_dict": ["a"]}), "`modules_dtype_dict`");
    check(json!({"modules_quant_config": {"a": 1}}), "`a`");
    check(json!({"modules_quant_config": {"a": {"group_size": []}}}), "`group_size`");
}

#[test]
fn what_is_not_said_is_the_librarys_default() {
    let c = config(json!({"quant_method": "sdnq", "group_size": null, "unknown": {}}));
    assert_eq!(c.kwargs("a.weight").expect("kwargs"), LayerConfig::default());
    assert!(c.converts("a.weight") && !c.quant_conv && !c.quant_embedding);
    let c = config(json!({"modules_to_not_convert": "norm", "group_size": -7}));
    assert!(!c.converts("blocks.0.norm.weight"));
    assert_eq!(c.general().group_size, -1, "any other negative size is a row");
}

#[test]
fn a_layers_own_words_win_and_then_the_dtypes() {
    let c = config(json!({
        "weights_dtype": "int8",
        "use_quantized_matmul": true,
        "modules_quant_config": {"attn": {"weights_dtype": "uint4", "group_size": 64}, "*": {"use_svd": true}},
        "modules_dtype_dict": {"UINT3": ["b.attn.weight"], "int5": "b"},
        "modules_to_not_use_matmul": ["ff"],
    }));
    let check = |name: &str, dtype: &str, group_size: i64, use_svd: bool, matmul: bool| {
        let k = c.kwargs(name).expect("kwargs");
        let found = (k.weights_dtype.as_str(), k.group_size, k.use_svd, k.use_quantized_matmul);
        assert_eq!(found, (dtype, group_size, use_svd, matmul), "{name}");
    };
    check("a.attn.weight", "uint4", 64, false, true);
    check("b.attn.weight", "uint3", 64, false, true);
    check("b.ff.weight", "int5", 0, true, false);
    check("c.weight", "int8", 0, true, true);
}

#[test]
fn least_numbers_of_bits() {
    /// What becomes of a dtype by keys that all layers meet.
    fn check(dtype: &str, keys: &[&str], expected: &str) {
        let dict: Map<String, Value> = keys.iter().map(|k| ((*k).to_owned(), json!(["a"]))).collect();
        let c = config(json!({"weights_dtype": dtype, "modules_dtype_dict": dict}));
        assert_eq!(c.kwargs("a.weight").expect("kwargs").weights_dtype, expected, "{dtype} by {keys:?}");
    }
    check("uint4", &["minimum_6bit"], "int6");
    check("uint4", &["minimum-uint6bits"], "uint6");
    check("uint2", &["4bit"], "uint4");
    check("uint2", &["minimum_int4"], "uint4");
    check("int8", &["minimum_6bit"], "int8");
    check("float8_e4m3fn", &["minimum_8bits"], "float8_e4m3fn");
    check("int4", &["Minimum_Int8_Bits"], "int8");
    // The first is met already, so the second decides.
    check("int6", &["minimum_4bit", "uint5"], "uint5");
    check("int6", &["uint5", "minimum_8bit"], "uint5");
    let c = config(json!({"modules_dtype_dict": {"minimum_manybits": ["a"]}}));
    assert!(c.kwargs("a.weight").expect_err("no number").to_string().contains("minimum_manybits"));
    assert!(c.kwargs("b.weight").is_ok());
}

#[test]
fn what_cannot_be_read_says_why() {
    fn check(value: Value, part: &str) {
        let why = config(value).general().refusal().unwrap_or_default();
        assert!(why.contains(part), "{why}");
    }
    check(json!({"scale_dtype": "int8"}), "`scale_dtype`");
    check(json!({"zero_point_dtype": "uint8"}), "`zero_point_dtype`");
    check(json!({"scale_dtype": "none"}), "");
    check(json!({"weights_dtype": "float8_e8m0fnu"}), "powers of two");
    check(json!({"weights_dtype": "float99"}), "float99");
    check(json!({"weights_dtype": "int4", "use_codebook": true}), "codebook");
    check(json!({"use_hadamard": true, "hadamard_group_size": 0}), "hadamard_group_size");
    assert_eq!(LayerConfig::default().refusal(), None);
}

/// Layouts that sdnq 0.2.8 was seen to make, for matrices of 256 rows and 192 columns and kernels of 3 by 3.
#[test]
fn layouts() {
    fn check(kind: Kind, shape: &[u64], value: Value, expected: &str) {
        let laid = config(value.clone()).general().layout(kind, shape).expect("a layout");
        let parts = laid.parts("a.weight", Storage::BF16);
        let text: Vec<String> =
            parts.iter().map(|p| format!("{} {}{:?}", crate::core::name::last(&p.name), p.storage, p.shape)).collect();
        assert_eq!(text.join(", "), expected, "{value}");
    }
    let linear = |value, expected: &str| check(Kind::Linear, &[256, 192], value, expected);
    linear(json!({"group_size": 48}), "weight I8[256, 4, 48], scale F32[256, 4, 1]");
    linear(json!({"use_quantized_matmul": true}), "weight I8[192, 256], scale F32[1, 256]");
    linear(json!({"use_quantized_matmul": true, "group_size": -2}), "weight I8[192, 256], scale F32[1, 1]");
    linear(
        json!({"use_quantized_matmul": true, "weights_dtype": "uint8"}),
        "weight U8[192, 256], scale F32[1, 256], zero_point F32[1, 256]",
    );
    linear(
        json!({"use_quantized_matmul": true, "weights_dtype": "float8_e4m3fn"}),
        "weight F8_E4M3[192, 256], scale F32[1, 256]",
    );
    linear(
        json!({"use_quantized_matmul": true, "weights_dtype": "float8_e3m4fn"}),
        "weight U8[256, 192], scale F32[256, 1]",
    );
    linear(
        json!({"use_quantized_matmul": true, "weights_dtype": "int8", "quantized_matmul_dtype": "fp8"}),
        "weight I8[256, 192], scale F32[256, 1]",
    );
    linear(json!({"use_quantized_matmul": true, "group_size": 64}), "weight I8[256, 3, 64], scale F32[256, 3, 1]");
    linear(
        json!({"use_quantized_matmul": true, "weights_dtype": "uint4", "use_svd": true}),
        "weight U8[24576], scale F32[256, 1], zero_point F32[256, 1], svd_up BF16[32, 256], svd_down BF16[192, 32]",
    );
    linear(
        json!({"weights_dtype": "uint4", "use_svd": true, "svd_rank": 500}),
        "weight U8[24576], scale F32[256, 1], zero_point F32[256, 1], svd_up BF16[256, 192], svd_down BF16[192, 192]",
    );
    check(
        Kind::Convolution,
        &[96, 64, 3, 3],
        json!({"use_quantized_matmul_conv": true, "use_svd": true}),
        "weight I8[576, 96], scale F32[1, 96], svd_up BF16[32, 96], svd_down BF16[576, 32]",
    );
    check(
        Kind::Convolution,
        &[96, 64, 3, 3],
        json!({"use_quantized_matmul": true}),
        "weight I8[96, 64, 3, 3], scale F32[96, 1, 3, 3]",
    );
    // Too narrow for the products: 40 is no multiple of 16.
    check(Kind::Linear, &[256, 40], json!({"use_quantized_matmul": true}), "weight I8[256, 40], scale F32[256, 1]");
}

#[test]
fn rotations_begin_at_the_next_power_of_two() {
    fn check(limit: u32, channels: u64, expected: u32) {
        let layer = config(json!({"use_hadamard": true, "hadamard_group_size": limit})).general().clone();
        assert_eq!(layer.hadamard(&[64, channels]), expected, "{limit} for {channels}");
    }
    check(256, 3072, 256);
    check(200, 3072, 256);
    check(256, 192, 64);
    check(256, 33, 0);
    check(u32::MAX, 3072, 1024);
}
