//! What can be worked out of a script without running it: sums of whole numbers, and the answers of tests.

use super::environment::Environment;
use super::images::glob;
use super::interpolation::{self, Syntax};
use super::text::Text;

/// Deepest nesting of brackets.
const MAX_BRACKETS: usize = 32;

/// The answer of `[ ... ]`, where its words tell it.
pub(super) fn test(words: &[&str]) -> Option<bool> {
    let number = |word: &str| word.parse::<i64>().ok();
    match words {
        ["!", rest @ ..] => test(rest).map(|came| !came),
        [] => Some(false),
        ["-z", word] => Some(word.is_empty()),
        ["-n", word] | [word] => Some(!word.is_empty()),
        // The right side may be a pattern.
        [_, "=" | "==" | "!=", right] if right.contains(['?', '[']) => None,
        [left, "=" | "==", right] => Some(glob(right, left)),
        [left, "!=", right] => Some(!glob(right, left)),
        [left, "-eq", right] => Some(number(left)? == number(right)?),
        [left, "-ne", right] => Some(number(left)? != number(right)?),
        [left, "-gt", right] => Some(number(left)? > number(right)?),
        [left, "-ge", right] => Some(number(left)? >= number(right)?),
        [left, "-lt", right] => Some(number(left)? < number(right)?),
        [left, "-le", right] => Some(number(left)? <= number(right)?),
        _ => None,
    }
}

/// Sums and products of whole numbers and known variables.
pub(super) fn arithmetic(body: &Text, variables: &Environment) -> Option<i64> {
    let expanded = interpolation::expand(body, Syntax::Compose, &|name| variables.look_up(name));
    let value = expanded.value();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = value.get(at..).and_then(|rest| rest.chars().next()) {
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if let Some(name) = interpolation::name_at(value, at, |_| false) {
            tokens.push(
                variables
                    .text(value.get(name.clone())?)?
                    .value()
                    .trim()
                    .to_owned(),
            );
            at = name.end;
        } else if c.is_ascii_digit() {
            let rest = value.get(at..)?;
            let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            tokens.push(rest.get(..len)?.to_owned());
            at += len;
        } else {
            tokens.push(c.to_string());
            at += c.len_utf8();
        }
    }
    let mut sum = Sum {
        tokens: &tokens,
        at: 0,
        depth: 0,
    };
    let result = sum.terms()?;
    (sum.at == tokens.len()).then_some(result)
}

struct Sum<'t> {
    tokens: &'t [String],
    at: usize,
    depth: usize,
}

impl Sum<'_> {
    fn take(&mut self, wanted: &[&str]) -> Option<String> {
        let token = self
            .tokens
            .get(self.at)
            .filter(|token| wanted.contains(&token.as_str()))?;
        self.at += 1;
        Some(token.clone())
    }

    fn terms(&mut self) -> Option<i64> {
        let mut sum = self.factors()?;
        while let Some(operator) = self.take(&["+", "-"]) {
            let next = self.factors()?;
            sum = if operator == "+" {
                sum.checked_add(next)?
            } else {
                sum.checked_sub(next)?
            };
        }
        Some(sum)
    }

    fn factors(&mut self) -> Option<i64> {
        let mut product = self.atom()?;
        while let Some(operator) = self.take(&["*", "/", "%"]) {
            let next = self.atom()?;
            product = match operator.as_str() {
                "*" => product.checked_mul(next)?,
                "/" => product.checked_div(next)?,
                _ => product.checked_rem(next)?,
            };
        }
        Some(product)
    }

    fn atom(&mut self) -> Option<i64> {
        if self.take(&["("]).is_some() {
            self.depth += 1;
            let inner = if self.depth < MAX_BRACKETS {
                self.terms()?
            } else {
                return None;
            };
            self.depth -= 1;
            self.take(&[")"])?;
            return Some(inner);
        }
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        token.parse().ok()
    }
}
