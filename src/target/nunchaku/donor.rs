//! What `--smooth-from` gives: a Nunchaku file of the base model, or the greatest magnitudes of its layers' inputs.
//!
//! A fine-tune's activations are nearly those of its base, so the base's smoothing serves. Of the magnitudes `a` of a
//! layer's input channels, its smoothing is their root over the geometric mean of all roots: SmoothQuant's `a^α / w^(1 - α)`
//! (Xiao et al. 2023) at α = 0.5, without the weight's part, as deepcompressor also tries it (its β = 0).
use std::path::Path;

use serde_json::Value;

use super::layers::Words;
use super::metadata::{CONFIG, QUANTIZATION};
use super::parts::{Role, word};
use super::read::bytes;
use super::{layout, metadata};
use crate::core::dtype::StorageExt;
use crate::core::model::Encoding;
use crate::core::options::Donor;
use crate::core::recipe::Smooth;
use crate::core::{Error, Result, Storage, name};
use crate::format::{OpenOptions, Opened};
use crate::quant::cast;
use crate::quant::four::{bf16, to_bf16};

/// Opens it.
///
/// # Errors
/// If it is neither, a number is none that smooths, or layers disagree on precision and rank.
pub fn open(path: &Path) -> Result<Donor> {
    let label = path.display().to_string();
    let opened = crate::target::open_arrays(&label, &OpenOptions::default())?;
    let is_quantized = opened.model.stored.iter().any(|s| s.name.ends_with(".qweight"));
    let donor = if is_quantized { quantized(&opened) } else { statistics(&opened) };
    let donor = donor.map_err(|e| e.at(&label))?;
    if donor.smoothing.is_empty() && !is_quantized {
        return Err(Error::failed(format!(
            "{label}: is neither a Nunchaku file nor a list of magnitudes, for each layer a row of floats, one for each of \
             its input channels"
        )));
    }
    Ok(donor)
}

/// A file or a folder of Nunchaku's. Only what smooths is looked at: of the rest much may be that is not read otherwise.
fn quantized(opened: &Opened) -> Result<Donor> {
    let mut donor = Donor::default();
    let words = [Words::Classic, Words::Second].map(|words| word(Role::Smooth, words));
    for stored in &opened.model.stored {
        let Some((layer, _)) = stored.name.rsplit_once('.').filter(|(_, last)| words.contains(last)) else { continue };
        if !matches!(stored.storage, Storage::BF16 | Storage::F16) {
            let is = stored.storage.name();
            return Err(Error::failed(format!("`{}` is {is}; smoothing has 16 bits", stored.name)));
        }
        let bytes = bytes(opened, stored)?;
        let packed: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
        if !packed.len().is_multiple_of(layout::BLOCK) {
            return Err(Error::failed(format!(
                "`{}` is of {} channels, no multiple of 128",
                stored.name,
                packed.len()
            )));
        }
        let mut natural = vec![0; packed.len()];
        layout::unpack_vector(&packed, &mut natural);
        let mut numbers = vec![0.0; natural.len()];
        let natural: Vec<u8> = natural.into_iter().flat_map(u16::to_le_bytes).collect();
        cast::decode(stored.storage, &natural, &mut numbers);
        numbers.iter_mut().for_each(|v| *v = bf16(to_bf16(*v)));
        if let Some(bad) = numbers.iter().find(|v| !v.is_finite() || **v <= 0.0) {
            return Err(Error::failed(format!("`{}` has the value {bad}; smoothing is positive", stored.name)));
        }
        // Ones smooth nothing: a layer that has them is as one that is not there.
        if numbers.iter().any(|v| *v != 1.0) {
            donor.smoothing.insert(layer.to_owned(), Smooth::new(numbers));
        }
    }
    donor.rank = metadata::find(&opened.model.stored)?.and_then(|found| u32::try_from(found.rank).ok());
    let header = opened.model.files.iter().flat_map(|file| &file.metadata).find(|(key, _)| key == CONFIG);
    let config = header.and_then(|(_, text)| serde_json::from_str(text).ok()).or_else(|| opened.model.config.clone());
    if let Some(Value::Object(mut config)) = config {
        config.shift_remove(QUANTIZATION);
        donor.config = Some(Value::Object(config));
    }
    Ok(donor)
}

/// A file of the magnitudes of inputs: of each layer, by its name, a row of floats.
fn statistics(opened: &Opened) -> Result<Donor> {
    let mut donor = Donor::default();
    for tensor in &opened.model.tensors {
        let (Encoding::Plain(array), &[width]) = (&tensor.encoding, tensor.shape.as_slice()) else { continue };
        let Some(stored) = opened.model.stored.get(*array as usize).filter(|s| s.storage.is_float()) else { continue };
        let mut magnitudes = vec![0.0; usize::try_from(width).map_err(|_| Error::failed("longer than memory"))?];
        cast::decode(stored.storage, &bytes(opened, stored)?, &mut magnitudes);
        if let Some(bad) = magnitudes.iter().find(|v| !v.is_finite() || **v < 0.0) {
            return Err(Error::failed(format!("`{}` has the value {bad}; a magnitude is positive", stored.name)));
        }
        if magnitudes.iter().all(|v| *v == 0.0) {
            return Err(Error::failed(format!("`{}` has only zeros: nothing was measured", stored.name)));
        }
        donor.smoothing.insert(name::layer(&tensor.name).to_owned(), Smooth::new(of_magnitudes(&magnitudes)));
    }
    Ok(donor)
}

/// A channel this much weaker than the strongest needs no more help than this.
const FAINTEST: f64 = 1e-5;

fn of_magnitudes(magnitudes: &[f32]) -> Vec<f32> {
    // In f64, where the least share of the least f32 is not zero.
    let most = f64::from(magnitudes.iter().copied().fold(0.0, f32::max));
    let logs: Vec<f64> = magnitudes.iter().map(|m| f64::from(*m).max(most * FAINTEST).ln() / 2.0).collect();
    let middle = logs.iter().sum::<f64>() / logs.len() as f64;
    logs.iter().map(|log| bf16(to_bf16((log - middle).exp() as f32))).collect()
}

#[cfg(test)]
mod tests {
    use super::of_magnitudes;

    #[test]
    fn smoothing_is_the_root_of_magnitudes_around_one() {
        let check = |magnitudes: &[f32], expected: &[f32]| assert_eq!(of_magnitudes(magnitudes), expected);
        check(&[4.0, 1.0, 0.25], &[2.0, 1.0, 0.5]);
        check(&[9.0, 9.0], &[1.0, 1.0]);
        check(&[1e-44, 1e-44], &[1.0, 1.0]);
        check(&[], &[]);
        // A silent channel is as one of 1/100000 of the strongest: a root of 1/316, around their geometric mean.
        check(&[1.0, 0.0], &[17.75, 0.056_152_344]);
    }
}
