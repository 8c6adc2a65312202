//! Conversions between integer types that clamp instead of failing.

/// An integer type with its range.
pub trait Bounded {
    /// The smallest value.
    const MIN: Self;
    /// The largest value.
    const MAX: Self;
}

macro_rules! bounded {
    ($($integer:ident),*) => {
        $(impl Bounded for $integer {
            const MIN: Self = Self::MIN;
            const MAX: Self = Self::MAX;
        })*
    };
}

bounded!(u8, u16, u32, u64, u128, usize, i32, i64);

/// Converts an integer to another type. A value that does not fit becomes the nearest one that does.
pub fn saturate<From, To>(value: From) -> To
where
    From: Copy + Default + PartialOrd,
    To: Bounded + TryFrom<From>,
{
    To::try_from(value).unwrap_or(if value < From::default() { To::MIN } else { To::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_does_not_fit_becomes_the_nearest_one() {
        assert_eq!(saturate::<u64, u8>(200), 200);
        assert_eq!(saturate::<u64, u8>(256), u8::MAX);
        assert_eq!(saturate::<u64, i64>(u64::MAX), i64::MAX);
        assert_eq!(saturate::<i64, u64>(-1), 0);
        assert_eq!(saturate::<i64, i32>(i64::MIN), i32::MIN);
    }
}
