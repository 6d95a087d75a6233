//! Variables that a platform fills on each machine: how many accelerators a node has there.
//!
//! A deployment with several kinds of machines has one value of such a setting on each of them. The declared text
//! stays what the file says; [`Deployment::settings_on`] gives what it is on one machine.

use std::borrow::Cow;

use super::Deployment;
use crate::engine::Settings;
use crate::engine::args::is_placeholder;

/// What a platform fills a variable with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The accelerators of one node.
    AcceleratorsOfNode,
    /// The accelerators of all nodes together.
    Accelerators,
}

impl Deployment {
    /// Names a variable that the platform fills: settings that it stands in are resolved on each machine.
    pub fn fill(&mut self, variable: &str, filled: Filled) {
        self.filled.push((variable.to_owned(), filled));
    }

    /// Takes the fields out of the unresolved ones whose value is known on each machine.
    pub fn settle_filled(&mut self) {
        let known: Vec<String> = self
            .settings
            .iter()
            .filter(|(_, value)| self.is_filled(&value.value))
            .map(|(id, _)| id.to_owned())
            .collect();
        self.unresolved.retain(|field| !known.contains(field));
    }

    /// True for a value that is known on each machine.
    pub fn is_filled(&self, value: &str) -> bool {
        self.value_on(value, 1).is_some()
    }

    /// The settings on a machine of so many accelerators in all.
    pub fn settings_on(&self, accelerators: u64) -> Cow<'_, Settings> {
        if self.filled.is_empty() {
            return Cow::Borrowed(&self.settings);
        }
        let mut settings = self.settings.clone();
        for (id, value) in self.settings.iter() {
            if let Some(number) = self.value_on(&value.value, accelerators) {
                settings.set(id, value.clone().map(|_| number.to_string()));
            }
        }
        Cow::Owned(settings)
    }

    fn value_on(&self, value: &str, accelerators: u64) -> Option<u64> {
        if self.filled.is_empty() || !is_placeholder(value) {
            return None;
        }
        let nodes = self.settings.count("nodes").unwrap_or(1).max(1);
        let known = |name: &str| {
            let (_, filled) = self.filled.iter().find(|(known, _)| known == name)?;
            Some(match filled {
                Filled::AcceleratorsOfNode => (accelerators / nodes).max(1),
                Filled::Accelerators => accelerators.max(1),
            })
        };
        evaluated(value.trim(), &known)
    }
}

/// A variable, or a product or quotient of variables and numbers in `$((...))`.
fn evaluated(value: &str, known: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
    let Some(inner) = value.strip_prefix("$((").and_then(|rest| rest.strip_suffix("))")) else {
        return variable(value, known);
    };
    let operand = |text: &str| {
        let text = text.trim();
        let number = text.parse().ok();
        number.or_else(|| known(text)).or_else(|| variable(text, known))
    };
    let mut result: Option<u64> = None;
    let mut start = 0;
    let mut operator = '*';
    for (at, next) in inner.match_indices(['*', '/']).chain([(inner.len(), "")]) {
        let number = operand(inner.get(start..at)?)?;
        result = Some(match (result, operator) {
            (None, _) => number,
            (Some(so_far), '/') => so_far.checked_div(number)?,
            (Some(so_far), _) => so_far.checked_mul(number)?,
        });
        operator = next.chars().next().unwrap_or('*');
        start = at + next.len();
    }
    result
}

/// `$NAME` or `${NAME}`; what stands in for a variable that is not set never does here.
fn variable(text: &str, known: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
    let bare = text.strip_prefix('$')?;
    let name = match bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(inner) => inner.split([':', '-']).next()?,
        None => bare,
    };
    known(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_eight(value: &str) -> Option<u64> {
        evaluated(value, &|name| (name == "N").then_some(8))
    }

    #[test]
    fn a_platform_variable_is_known_alone_and_in_a_product() {
        assert_eq!(on_eight("$N"), Some(8));
        assert_eq!(on_eight("${N:-1}"), Some(8));
        assert_eq!(on_eight("$((N * 2))"), Some(16));
        assert_eq!(on_eight("$(( ${N} / 2 ))"), Some(4));
    }

    #[test]
    fn anything_else_is_not_known() {
        for value in [
            "$M",
            "$N$N",
            "$((N + 1))",
            "$((N / 0))",
            "$((9223372036854775807 * N))",
            "$(()",
            "$(())",
            "${N",
        ] {
            assert_eq!(on_eight(value), None, "{value}");
        }
    }
}
