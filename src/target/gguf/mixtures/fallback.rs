//! Types for rows that are not whole blocks of the type that was meant.
use crate::core::{Error, Result};
use crate::format::gguf::Type;
use Type::*;

/// The type that stands in for `wanted` in rows of `cols` values: `wanted` itself where it fits. Two types have no
/// stand-in; then it is an error.
pub fn fallback(wanted: Type, cols: u64) -> Result<Type> {
    if wanted.fits(cols) {
        return Ok(wanted);
    }
    let smaller = match wanted {
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => IQ4_NL,
        Q2_0 | Q2_K | Q3_K | TQ1_0 | TQ2_0 => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other if other.block() <= 32 => other,
        other => {
            return Err(Error::usage(format!(
                "rows of {cols} are not whole blocks of {}, and {other} has no type to fall back to; name another",
                other.block()
            )));
        }
    };
    Ok(if smaller.fits(cols) { smaller } else { F16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_rows_get_smaller_blocks() {
        fn check(wanted: Type, cols: u64, expected: Type) {
            assert_eq!(fallback(wanted, cols).expect("a type"), expected, "{wanted} in rows of {cols}");
        }
        check(Q4_K, 512, Q4_K);
        check(Q4_K, 288, Q5_0);
        check(Q5_K, 288, Q5_1);
        check(Q6_K, 288, Q8_0);
        check(Q3_K, 288, Q4_0);
        check(TQ2_0, 288, Q4_0);
        check(Q2_0, 96, Q4_0);
        check(IQ3_S, 288, IQ4_NL);
        check(IQ4_XS, 288, IQ4_NL);
        check(Q6_K, 80, F16);
        check(Q8_0, 80, F16);
        check(MXFP4, 80, F16);
        check(F16, 7, F16);
    }

    #[test]
    fn two_types_have_no_stand_in() {
        for (wanted, cols) in [(Q1_0, 96), (NVFP4, 96)] {
            let message = fallback(wanted, cols).expect_err("none").to_string();
            assert!(message.contains(wanted.name()) && message.contains("96"), "{message}");
        }
    }
}
