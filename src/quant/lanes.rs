//! The one place where a loop is bound to an instruction set.
//!
//! A kernel is an ordinary loop in [`Kernel::run`], marked `#[inline(always)]`. It is compiled once plainly and once for
//! each instruction set below, and the compiler does the vectorizing. Rust never contracts `a * b + c` nor reorders a
//! float sum, so every instantiation computes the same bits; only the width differs. On aarch64 NEON is part of the
//! plain build.

/// A loop to be compiled for several instruction sets. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What the loop yields.
    type Output;
    /// The loop.
    fn run(self) -> Self::Output;
}

/// An instruction set a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Plain,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The levels this machine can run, the widest last.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let mut levels = vec![Self::Plain];
            levels.extend(has_avx2().then_some(Self::Avx2));
            levels.extend(has_avx512().then_some(Self::Avx512));
            levels
        }
        #[cfg(not(target_arch = "x86_64"))]
        vec![Self::Plain]
    }

    /// The widest level this machine can run. The detection is cached by std: an atomic load.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self::Avx512;
            }
            if has_avx2() {
                return Self::Avx2;
            }
        }
        Self::Plain
    }

    /// Run `kernel` at this level, or plainly if the machine lacks it.
    #[cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "each call follows the detection of its features"))]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: the features were detected on this machine.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if has_avx512() => unsafe { avx512(kernel) },
            // SAFETY: the feature was detected on this machine.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 if has_avx2() => unsafe { avx2(kernel) },
            _ => kernel.run(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
