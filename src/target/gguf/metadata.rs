//! What a GGUF file says of its own quantization. `docs/METADATA_KEYS.md` describes the keys for people.
use crate::format::gguf::{Pair, Value};

/// What is known before any weight is read.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Whether any tensor is quantized.
    pub quantized: bool,
    /// The mixture's name, or the type's with `--pure`.
    pub format: String,
    /// The type that most of the weights had: `BF16`.
    pub original_dtype: String,
    /// mixdown's version.
    pub version: String,
    /// With `--embed-loss`: the quantized tensors, in the order of the file.
    pub tensors: Option<Vec<String>>,
}

/// What is known when all weights are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Mean of the squared error, over all values of quantized tensors.
    pub mse: f32,
    /// The largest error of any value.
    pub max_error: f32,
    /// Mean squared errors of `About::tensors`, in that order.
    pub mse_of: Vec<f32>,
    /// Largest errors of `About::tensors`, in that order.
    pub max_error_of: Vec<f32>,
}

/// The keys and their values, in order. They are as many bytes without losses as with them: all numbers have a fixed
/// width, so the header can be placed before a weight is read, and be written last.
pub fn entries(about: &About, losses: Option<&Losses>) -> Vec<Pair> {
    let mut entries = vec![
        Pair::new("general.quantized_by", format!("mixdown {}", about.version).as_str()),
        Pair::new("mixdown.quantized", about.quantized),
        Pair::new("mixdown.quantization_format", about.format.as_str()),
        Pair::new("mixdown.original_dtype", about.original_dtype.as_str()),
        Pair::new("mixdown.quantization_loss_mse", losses.map_or(0.0, |l| l.mse)),
        Pair::new("mixdown.quantization_loss_max", losses.map_or(0.0, |l| l.max_error)),
        Pair::new("mixdown.version", about.version.as_str()),
    ];
    // No empty arrays: some readers refuse them.
    if let Some(names) = about.tensors.as_ref().filter(|n| !n.is_empty()) {
        let column = |values: Option<&Vec<f32>>| -> Value {
            let mut column = values.cloned().unwrap_or_default();
            column.resize(names.len(), 0.0);
            column.as_slice().into()
        };
        entries.push(Pair::new("mixdown.loss.names", Value::strings(names)));
        entries.push(Pair::new("mixdown.loss.mse", column(losses.map(|l| &l.mse_of))));
        entries.push(Pair::new("mixdown.loss.max_error", column(losses.map(|l| &l.max_error_of))));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(tensors: Option<Vec<String>>) -> About {
        About {
            quantized: true,
            format: "Q4_K_M".into(),
            original_dtype: "BF16".into(),
            version: "0.1.0".into(),
            tensors,
        }
    }

    #[test]
    fn a_file_tells_what_it_is() {
        let losses = Losses { mse: 1.5e-5, max_error: 0.25, ..Losses::default() };
        let expected = [
            Pair::new("general.quantized_by", "mixdown 0.1.0"),
            Pair::new("mixdown.quantized", true),
            Pair::new("mixdown.quantization_format", "Q4_K_M"),
            Pair::new("mixdown.original_dtype", "BF16"),
            Pair::new("mixdown.quantization_loss_mse", 1.5e-5f32),
            Pair::new("mixdown.quantization_loss_max", 0.25f32),
            Pair::new("mixdown.version", "0.1.0"),
        ];
        assert_eq!(entries(&about(None), Some(&losses)), expected);
        assert_eq!(entries(&about(Some(Vec::new())), Some(&losses)), expected);
    }

    #[test]
    fn losses_take_no_more_bytes_than_their_places() {
        let about = about(Some(vec!["blk.0.attn_v.weight".into(), "output.weight".into()]));
        let losses = Losses { mse: 3e-9, max_error: 12.0, mse_of: vec![1e-30, 0.125], max_error_of: vec![0.5, 12.0] };
        let (before, after) = (entries(&about, None), entries(&about, Some(&losses)));
        assert_eq!(after.get(8), Some(&Pair::new("mixdown.loss.mse", &[1e-30f32, 0.125][..])));
        assert_eq!(after.get(9), Some(&Pair::new("mixdown.loss.max_error", &[0.5f32, 12.0][..])));
        assert_eq!(before.len(), after.len());
        for (b, a) in before.iter().zip(&after) {
            assert_eq!((&b.key, b.value.file_bytes()), (&a.key, a.value.file_bytes()));
        }
    }
}
