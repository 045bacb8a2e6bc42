//! llama-quantize's choice of a type for each tensor, as pure functions, with the reason in words.
//!
//! [`choose`] gives the types of a whole model, [`check`] says what stands in the way of writing them. Without options
//! the choice is llama-quantize's for every mixture. With them it differs in this: a tensor whose type is named moves
//! no other tensor, since the counters behind the mixtures count it all the same; named types fall back where rows do
//! not fit them; and they hold for the float mixtures too.
mod choice;
mod fallback;
pub mod keys;
pub(super) mod never;
pub mod prune;
pub mod rules;
mod table;

#[cfg(test)]
mod golden;

use std::fmt;

pub use choice::{Choice, Hyper, Kind, Named, Options, Source, check, choose, in_order, in_shards, requires_imatrix};
pub use fallback::fallback;

use crate::core::{Error, Result};
use crate::format::gguf::Type;

macro_rules! mixtures {
    ($($variant:ident = $number:literal, $name:literal, $default:ident, $about:literal;)*) => {
        /// What a whole file is quantized to: a type, and which tensors depart from it.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mixture {
            $($variant,)*
            /// Every tensor as it is.
            Copy,
        }

        impl Mixture {
            /// Every mixture, from few bits to many.
            pub const ALL: &'static [Mixture] = &[$(Mixture::$variant,)* Mixture::Copy];

            /// llama-quantize's name.
            pub fn name(self) -> &'static str {
                match self { $(Mixture::$variant => $name,)* Mixture::Copy => "COPY" }
            }
            /// The number that `general.file_type` has for it. [`Mixture::Copy`] has none of its own: see
            /// [`keys::copied_file_type`].
            pub fn number(self) -> u32 {
                match self { $(Mixture::$variant => $number,)* Mixture::Copy => 0 }
            }
            /// The type of most tensors.
            pub fn default_type(self) -> Type {
                match self { $(Mixture::$variant => Type::$default,)* Mixture::Copy => Type::F32 }
            }
            /// What it is good for, in a few words.
            pub fn about(self) -> &'static str {
                match self { $(Mixture::$variant => $about,)* Mixture::Copy => "every tensor as it is" }
            }
        }
    };
}

mixtures! {
    Q1_0 = 40, "Q1_0", Q1_0, "one bit, for models trained so";
    Iq1S = 24, "IQ1_S", IQ1_S, "1.6 bits; needs an importance matrix";
    Iq1M = 31, "IQ1_M", IQ1_M, "1.8 bits; needs an importance matrix";
    Tq1_0 = 36, "TQ1_0", TQ1_0, "ternary, for models trained so";
    Tq2_0 = 37, "TQ2_0", TQ2_0, "ternary and faster, for models trained so";
    Iq2Xxs = 19, "IQ2_XXS", IQ2_XXS, "2.1 bits; needs an importance matrix";
    Q2_0 = 41, "Q2_0", Q2_0, "two bits in groups of 64, for models trained so";
    Iq2Xs = 20, "IQ2_XS", IQ2_XS, "2.3 bits; needs an importance matrix";
    Iq2S = 28, "IQ2_S", IQ2_XS, "2.5 bits; needs an importance matrix";
    Iq2M = 29, "IQ2_M", IQ2_S, "2.7 bits; needs an importance matrix";
    Q2KS = 21, "Q2_K_S", Q2_K, "two bits; needs an importance matrix";
    Q2K = 10, "Q2_K", Q2_K, "two bits, three where it hurts";
    Iq3Xxs = 23, "IQ3_XXS", IQ3_XXS, "3.1 bits; needs an importance matrix";
    Iq3Xs = 22, "IQ3_XS", IQ3_S, "3.3 bits; needs an importance matrix";
    Iq3S = 26, "IQ3_S", IQ3_S, "3.4 bits from a grid";
    Q3KS = 11, "Q3_K_S", Q3_K, "three bits throughout";
    Iq3M = 27, "IQ3_M", IQ3_S, "3.7 bits from a grid, more where it hurts";
    Q3KM = 12, "Q3_K_M", Q3_K, "three bits, more where it hurts";
    Q3KL = 13, "Q3_K_L", Q3_K, "three bits, five where it hurts";
    Iq4Xs = 30, "IQ4_XS", IQ4_XS, "4.25 bits, uneven levels";
    Mxfp4Moe = 38, "MXFP4_MOE", MXFP4, "experts in MXFP4, the rest in Q8_0";
    Q4_0 = 2, "Q4_0", Q4_0, "four bits, the simplest";
    Iq4Nl = 25, "IQ4_NL", IQ4_NL, "4.5 bits, uneven levels, for rows of 32";
    Q4KS = 14, "Q4_K_S", Q4_K, "four bits, five in the first layers";
    Q4KM = 15, "Q4_K_M", Q4_K, "four bits, six where it hurts; the usual choice";
    Q4_1 = 3, "Q4_1", Q4_1, "four bits with a minimum";
    Q5_0 = 8, "Q5_0", Q5_0, "five bits, the simplest";
    Q5KS = 16, "Q5_K_S", Q5_K, "five bits throughout";
    Q5KM = 17, "Q5_K_M", Q5_K, "five bits, six where it hurts";
    Q5_1 = 9, "Q5_1", Q5_1, "five bits with a minimum";
    Q6K = 18, "Q6_K", Q6_K, "six bits; hardly any loss";
    Q8_0 = 7, "Q8_0", Q8_0, "eight bits; the loss is hard to measure";
    F16 = 1, "F16", F16, "half floats";
    Bf16 = 32, "BF16", BF16, "half floats with the range of F32";
    F32 = 0, "F32", F32, "floats";
}

/// Other names for mixtures.
const ALIASES: [(&str, Mixture); 3] = [("Q3_K", Mixture::Q3KM), ("Q4_K", Mixture::Q4KM), ("Q5_K", Mixture::Q5KM)];

impl Mixture {
    /// The mixture of a name in any case, of an alias, or of a number of `general.file_type`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let named = Self::ALL.iter().copied().find(|m| m.name().eq_ignore_ascii_case(text));
        let alias = || ALIASES.iter().find(|(a, _)| a.eq_ignore_ascii_case(text)).map(|(_, m)| *m);
        let number = || text.parse().ok().and_then(Self::from_number);
        named.or_else(alias).or_else(number).ok_or_else(|| {
            if text.eq_ignore_ascii_case("NVFP4") || text == "39" {
                return Error::usage("NVFP4 is a type of tensors, not of files: say `--tensor-type 'REGEX=nvfp4'`");
            }
            let near = crate::target::near(text, Self::ALL.iter().map(|m| m.name()));
            let names = if near.is_empty() { Self::ALL.iter().map(|m| m.name()).collect() } else { near };
            Error::usage(format!("GGUF has no mixture `{text}`; it has {}", names.join(", ")))
        })
    }
    /// The mixture of a number; never [`Mixture::Copy`].
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| *m != Mixture::Copy && m.number() == number)
    }
    /// Whether llama-quantize asks for an importance matrix for some tensor of any usual model.
    pub fn needs_imatrix(self) -> bool {
        use Mixture::*;
        matches!(self, Iq1S | Iq1M | Iq2Xxs | Iq2Xs | Iq2S | Iq2M | Iq3Xxs | Iq3Xs | Q2KS)
    }
}

impl fmt::Display for Mixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixtures_are_found_by_name_alias_and_number() {
        fn check(text: &str, expected: Mixture) {
            assert_eq!(Mixture::parse(text).expect(text), expected, "{text}");
        }
        check("q4_k_m", Mixture::Q4KM);
        check("Q4_K", Mixture::Q4KM);
        check("q5_k", Mixture::Q5KM);
        check("q3_K", Mixture::Q3KM);
        check("15", Mixture::Q4KM);
        check("iq3_M", Mixture::Iq3M);
        check("mxfp4_moe", Mixture::Mxfp4Moe);
        check("0", Mixture::F32);
        check("copy", Mixture::Copy);
        for mixture in Mixture::ALL {
            check(mixture.name(), *mixture);
        }
    }

    #[test]
    fn unknown_mixtures_are_refused_with_what_there_is() {
        fn check(text: &str, expected: &str) {
            let message = Mixture::parse(text).expect_err(text).to_string();
            assert!(message.contains(expected), "{message}");
        }
        check("Q4_K_X", "Q4_K_S");
        check("nvfp4", "--tensor-type");
        check("39", "--tensor-type");
        check("15x", "COPY");
        check("4", "has no mixture");
    }

    #[test]
    fn numbers_are_distinct() {
        let mut numbers: Vec<u32> = Mixture::ALL.iter().filter(|m| **m != Mixture::Copy).map(|m| m.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Mixture::ALL.len() - 1);
    }
}
