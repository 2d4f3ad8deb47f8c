//! Which vector instructions kernels may use: the widest that the processor has, or fewer where the environment variable
//! [`VARIABLE`] says so, to try on one machine what another would run. Products of matrices in f32 are a library's, which
//! makes its own choice.

use std::sync::LazyLock;

/// The environment variable: `avx512`, `avx2` or `portable`.
pub const VARIABLE: &str = "RGFT_INSTRUCTIONS";

/// What kernels may use at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Nothing that not every processor of its architecture has.
    Portable,
    /// On x86-64 those of AVX2 and FMA.
    Avx2,
    /// Whatever there is.
    Avx512,
}

/// What [`VARIABLE`] asks for.
///
/// # Errors
/// A sentence, where it is none of the three words.
pub fn asked() -> Result<Instructions, String> {
    match std::env::var_os(VARIABLE) {
        Some(word) if !word.is_empty() => parse(&word.to_string_lossy()),
        _ => Ok(Instructions::Avx512),
    }
}

fn parse(word: &str) -> Result<Instructions, String> {
    match word {
        "avx512" => Ok(Instructions::Avx512),
        "avx2" => Ok(Instructions::Avx2),
        "portable" => Ok(Instructions::Portable),
        _ => Err(format!("{VARIABLE} is {word:?}, expected \"avx512\", \"avx2\" or \"portable\"")),
    }
}

/// What kernels may use at most: what is asked for, read once.
///
/// # Panics
/// Where that is no word that [`asked`] understands.
pub(crate) fn allowed() -> Instructions {
    static ALLOWED: LazyLock<Instructions> =
        LazyLock::new(|| asked().unwrap_or_else(|message| panic!("{message}")));
    *ALLOWED
}

/// The widest that is allowed and there.
pub(crate) fn arch() -> pulp::Arch {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = || pulp::x86::V3::try_new().map_or(pulp::Arch::Scalar, pulp::Arch::V3);
        match allowed() {
            Instructions::Avx512 => pulp::Arch::new(),
            Instructions::Avx2 => avx2(),
            Instructions::Portable => pulp::Arch::Scalar,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        if allowed() == Instructions::Portable { pulp::Arch::Scalar } else { pulp::Arch::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused() {
        assert_eq!(parse("avx2"), Ok(Instructions::Avx2));
        assert!(parse("AVX").is_err_and(|message| message.contains("\"AVX\", expected \"avx512\"")));
    }

    #[test]
    fn kernels_run_on_no_more_than_what_is_asked_for() {
        struct Lanes;
        impl pulp::WithSimd for Lanes {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        let most = match allowed() {
            Instructions::Portable => 4,
            Instructions::Avx2 => 8,
            Instructions::Avx512 => 16,
        };
        assert!(arch().dispatch(Lanes) <= most);
        assert!(allowed() == Instructions::Avx512 || !crate::gemm::has_bf16());
    }
}
