//! Lists of devices that a process may see.

use super::environment::{Environment, Variable};
use crate::fact::Fact;

/// Variables that narrow what a process sees, the narrower first.
const VARIABLES: [&str; 7] = [
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "HABANA_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "NVIDIA_VISIBLE_DEVICES",
];

/// How many devices the environment leaves to see; `None` where it does not say.
pub(super) fn visible(environment: &Environment) -> Option<Fact<u64>> {
    VARIABLES.iter().find_map(|name| match environment.get(name)? {
        Variable::Known(text) => {
            let count = count(text.value())?;
            Some(text.fact().map(|_| count))
        }
        Variable::Unknown { .. } => None,
    })
}

/// The devices of a list of indices or identifiers; `None` for `all`, for nothing and for what is not known.
pub(super) fn count(list: &str) -> Option<u64> {
    let list = list.trim().trim_matches(['"', '\'']);
    let list = list.strip_prefix("device=").unwrap_or(list);
    let is_device = |item: &str| {
        !item.is_empty()
            && item
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'/'))
    };
    let items: Vec<&str> = list.split(',').map(str::trim).collect();
    let named = items.iter().all(|item| is_device(item));
    let words = ["all", "none", "void", "-1", "nodevfiles"];
    if !named || items.iter().any(|item| words.contains(item)) {
        return None;
    }
    u64::try_from(items.len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_and_what_is_no_list_does_not() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0,1, 2"), Some(3));
        assert_eq!(count("GPU-8f3c-00,GPU-77"), Some(2));
        assert_eq!(count("\"device=0,1\""), Some(2));
        for open in ["", "all", "none", "-1", "${GPUS}", "$i"] {
            assert_eq!(count(open), None, "{open}");
        }
    }
}
