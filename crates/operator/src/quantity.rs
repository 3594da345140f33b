//! Sizes as Kubernetes writes them.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Suffixes and the number that each stands for. Source: Kubernetes, resource.Quantity.
const SUFFIXES: [(&str, u64); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

/// The size in bytes, rounded up; none for what is no size, and for exponents, which nobody writes for sizes.
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    let (number, factor) =
        SUFFIXES.iter().find_map(|(suffix, factor)| Some((quantity.0.strip_suffix(suffix)?, *factor)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty()
        || fraction.len() > 9
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let factor = u128::from(factor);
    u64::try_from(whole * factor + (part * factor).div_ceil(scale)).ok()
}

/// How much room a claim asks for, in bytes.
pub fn requested_bytes(claim: &PersistentVolumeClaim) -> Option<u64> {
    bytes(claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |text: &str, expected| assert_eq!(bytes(&Quantity(text.to_owned())), expected, "{text}");
        check("1", Some(1));
        check("10Gi", Some(10 << 30));
        check("1.5Gi", Some(3 << 29));
        check("0.3k", Some(300));
        check("1.0001Ki", Some(1025));
        check("16E", Some(16_000_000_000_000_000_000));
        check("100M", Some(100_000_000));
        for text in ["", "Gi", ".", "1e3", "-1", "1,5Gi", "99999999999E", "1 Gi"] {
            check(text, None);
        }
    }
}
