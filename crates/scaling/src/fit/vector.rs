//! Exponentials and logarithms whose loops a compiler turns into vector instructions: most of the time of a fit is spent in them.
//!
//! Both are exact to one or two units in the last place. With `FMA` products are added in one instruction, which needs a processor that
//! has it (elsewhere it would be a slow call).

#[inline(always)]
fn multiply_add<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Added to a number below 2^51 this leaves its integer part in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// `ln 2` in two parts, of which the first has few enough bits that its products with exponents are exact.
const LN2: (f64, f64) = (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10);

/// `exp(x)`, for `x` clamped to -708 to 709.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f64) -> f64 {
    // `1/k!` from 13 down to 2.
    const SERIES: [f64; 12] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ];
    let x = x.clamp(-708.0, 709.0);
    let shifted = multiply_add::<FMA>(x, std::f64::consts::LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = multiply_add::<FMA>(-k, LN2.1, multiply_add::<FMA>(-k, LN2.0, x));
    let mut sum = SERIES[0];
    for term in &SERIES[1..] {
        sum = multiply_add::<FMA>(sum, r, *term);
    }
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let tail = multiply_add::<FMA>(sum * r, r, r);
    multiply_add::<FMA>(tail, power, power)
}

/// `ln(x)` of a positive, normal number.
#[inline(always)]
pub fn ln<const FMA: bool>(x: f64) -> f64 {
    // `2/(2 k + 1)` from 10 down to 1.
    const SERIES: [f64; 10] = [
        2.0 / 21.0,
        2.0 / 19.0,
        2.0 / 17.0,
        2.0 / 15.0,
        2.0 / 13.0,
        2.0 / 11.0,
        2.0 / 9.0,
        2.0 / 7.0,
        2.0 / 5.0,
        2.0 / 3.0,
    ];
    /// `sqrt(1/2)`: mantissas lie between it and twice it.
    const LOWEST: u64 = 0x3fe6_a09e_667f_3bcd;
    /// `2^52 + 1023`, as whose last bits an exponent is a floating-point number.
    const BIAS: f64 = 4_503_599_627_370_496.0 + 1023.0;
    let shifted = x.to_bits().wrapping_sub(LOWEST).wrapping_add(1023 << 52);
    let k = f64::from_bits((shifted >> 52) | 0x4330_0000_0000_0000) - BIAS;
    let mantissa = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(LOWEST));
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let square = s * s;
    let mut sum = SERIES[0];
    for term in &SERIES[1..] {
        sum = multiply_add::<FMA>(sum, square, *term);
    }
    // ln(1 + f) = 2 s + s^3 sum, and 2 s = f - s f.
    let tail = multiply_add::<FMA>(s * square, sum, multiply_add::<FMA>(-s, f, multiply_add::<FMA>(k, LN2.1, 0.0)));
    multiply_add::<FMA>(k, LN2.0, f + tail)
}

/// Whether the processor has what `FMA` needs.
pub fn has_fma() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_equal_the_standard_library() {
        for i in 0..20_000 {
            let x = -700.0 + 0.07 * f64::from(i);
            let (want, got) = (x.clamp(-708.0, 709.0).exp(), [exp::<false>(x), exp::<true>(x)]);
            got.iter().for_each(|g| assert!((g / want - 1.0).abs() < 5e-16, "exp {x}: {g} {want}"));
            let y = x.clamp(-700.0, 700.0).exp() * (1.0 + f64::from(i % 7) * 0.13);
            let (want, got) = (y.ln(), [ln::<false>(y), ln::<true>(y)]);
            got.iter().for_each(|g| assert!((g - want).abs() <= 5e-16 * want.abs().max(0.5), "ln {y}: {g} {want}"));
        }
        assert_eq!((exp::<false>(0.0), ln::<false>(1.0), exp::<true>(0.0), ln::<true>(1.0)), (1.0, 0.0, 1.0, 0.0));
        for x in [1.0 + 1e-9, 1.0 - 1e-9] {
            assert!((ln::<true>(x) / x.ln() - 1.0).abs() < 1e-15);
        }
        assert!(exp::<false>(f64::NAN).is_nan());
    }
}
