//! Conditions: CEL expressions over facts, checked before they run.
//!
//! In: the text of `when`. Out: a [`Condition`] in which every name is a known fact, every operator has types
//! that it takes, and the whole is true or false; or problems with their exact characters. CEL itself checks
//! nothing before it runs and mixes no int with double, so the types are worked out here. Facts become plain
//! identifiers of the expression (`estimate.certain_bytes`, and `?estimate.certain_bytes` for `has(...)`);
//! [`super::evaluate`] runs it.

use std::ops::Range;

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::parser::Parser;

use super::evaluate::{Expression, RELEASES, Release, Value};
use super::facts::{self, FactDefinition, Kind, Scope, View};
use super::{Problem, named_fact};
use crate::engine::Version;
use crate::nearest::did_you_mean;

/// The longest condition in bytes.
const MAX_LENGTH: usize = 4096;
/// How deep brackets may nest. The parser works by recursion, and in a debug build 12 unclosed brackets use up a
/// stack of 2 MB.
const MAX_DEPTH: usize = 8;
/// The most words and signs of a condition.
const MAX_TOKENS: usize = 1000;
/// The largest condition in nodes of its syntax tree, macros expanded.
const MAX_NODES: usize = 500;
/// How deep `all`, `exists`, `filter` and `map` may nest: each level multiplies the work.
const MAX_NESTED_LOOPS: usize = 1;

/// A checked condition.
#[derive(Debug, Clone)]
pub struct Condition {
    text: String,
    expression: Expression,
}

impl Condition {
    /// Reads and checks a condition; every problem carries its range in the text.
    pub(super) fn compile(text: &str, scope: Scope) -> Result<Self, Vec<Problem>> {
        let (expression, result) = compile(text, scope)?;
        if !matches!(result, Type::Bool | Type::Any) {
            let message = format!("a condition is true or false, this is {}", result.words());
            return Err(vec![Problem::new(0..text.len(), message)]);
        }
        Ok(Self {
            text: text.to_owned(),
            expression,
        })
    }

    /// The condition as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True when it holds. A condition that cannot be worked out, because a fact is absent or a number
    /// overflows, does not hold.
    pub fn holds(&self, view: &View<'_>) -> bool {
        self.expression.value(view) == Some(Value::Bool(true))
    }
}

/// A checked expression whose value a fix writes.
#[derive(Debug, Clone)]
pub struct Formula {
    expression: Expression,
    result: Type,
}

impl Formula {
    /// Reads and checks an expression of any type but a list.
    pub(super) fn compile(text: &str, scope: Scope) -> Result<Self, Vec<Problem>> {
        let (expression, result) = compile(text, scope)?;
        if matches!(result, Type::List(_)) {
            let message = "a list cannot be written into a file";
            return Err(vec![Problem::new(0..text.len(), message)]);
        }
        Ok(Self { expression, result })
    }

    /// The fact, where it is nothing but one.
    pub(super) fn as_fact(&self) -> Option<&'static FactDefinition> {
        self.expression.as_fact()
    }

    /// The type of its value in words.
    pub(super) fn nature(&self) -> &'static str {
        self.result.words()
    }

    /// True when its value can stand where a fact of a type stands.
    pub(super) fn suits(&self, kind: Kind) -> bool {
        match kind {
            // What a file holds as text may be written from a number: settings are texts in the end.
            Kind::Text => !matches!(self.result, Type::List(_)),
            Kind::Double => self.result.is_number(),
            Kind::List => false,
            Kind::Int | Kind::Bool => {
                Type::of(kind).compares_with(&self.result) && self.result != Type::Double
            }
        }
    }

    /// Its value as a file holds it.
    pub(crate) fn text(&self, view: &View<'_>) -> Option<String> {
        Some(match self.expression.value(view)? {
            Value::Int(number) => number.to_string(),
            Value::Double(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Text(words) => words.into_owned(),
            Value::List(_) => return None,
        })
    }
}

/// What a fact of a type is, for messages.
pub(super) fn words(kind: Kind) -> &'static str {
    Type::of(kind).words()
}

/// Reads and checks an expression.
fn compile(text: &str, scope: Scope) -> Result<(Expression, Type), Vec<Problem>> {
    let (tree, result) = checked(text, scope)?;
    match Expression::new(&tree) {
        Some(expression) => Ok((expression, result)),
        None => Err(vec![Problem::new(0..text.len(), "this cannot be worked out")]),
    }
}

/// The syntax tree with facts as plain identifiers, and the type of the whole.
pub(super) fn checked(text: &str, scope: Scope) -> Result<(IdedExpr, Type), Vec<Problem>> {
    bounded(text).map_err(|problem| vec![problem])?;
    let (mut expression, info) = Parser::default().parse_with_source_info(text).map_err(|errors| {
        errors
            .errors
            .iter()
            .take(1)
            .map(|e| syntax(text, e.pos, &e.msg))
            .collect::<Vec<_>>()
    })?;
    let mut checker = Checker::new(text, &info, scope);
    let result = checker.check(&mut expression);
    if checker.problems.is_empty() {
        Ok((expression, result))
    } else {
        Err(checker.problems)
    }
}

/// The type of a part of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Int,
    Double,
    Bool,
    Text,
    List(Box<Type>),
    /// Of a part that has a problem of its own, or of the items of an empty list: goes with everything.
    Any,
}

impl Type {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Int => Self::Int,
            Kind::Double => Self::Double,
            Kind::Bool => Self::Bool,
            Kind::Text => Self::Text,
            Kind::List => Self::List(Box::new(Self::Text)),
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Int => "an int",
            Self::Double => "a double",
            Self::Bool => "true or false",
            Self::Text => "a string",
            Self::List(_) => "a list",
            Self::Any => "anything",
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Double | Self::Any)
    }

    /// True when the two can be compared for equality with a chance to be equal.
    fn compares_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(one), Self::List(two)) => one.compares_with(two),
            (one, two) => {
                one == two || *one == Self::Any || *two == Self::Any || (one.is_number() && two.is_number())
            }
        }
    }

    /// The type that holds both, if one does.
    fn join(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, other) | (other, Self::Any) => Some(other),
            (Self::List(one), Self::List(two)) => one.join(*two).map(|item| Self::List(Box::new(item))),
            (one, two) => (one == two).then_some(one),
        }
    }
}

/// Works out types, turns fact paths into identifiers, and collects problems.
struct Checker<'s> {
    text: &'s str,
    info: &'s SourceInfo,
    scope: Scope,
    problems: Vec<Problem>,
    nodes: usize,
    /// Variables of the loops around the current node.
    variables: Vec<(String, Type)>,
    loops: usize,
}

impl<'s> Checker<'s> {
    fn new(text: &'s str, info: &'s SourceInfo, scope: Scope) -> Self {
        Self {
            text,
            info,
            scope,
            problems: Vec::new(),
            nodes: 0,
            variables: Vec::new(),
            loops: 0,
        }
    }

    fn report(&mut self, range: Range<usize>, message: impl Into<String>) -> Type {
        self.problems.push(Problem::new(range, message));
        Type::Any
    }

    /// The characters of a node: of an operator the operator itself.
    fn range(&self, id: u64) -> Range<usize> {
        match self.info.offset_for(id) {
            Some((start, stop)) => self.called(start as usize..(stop as usize).saturating_add(1)),
            None => 0..self.text.len(),
        }
    }

    /// CEL places a call at its bracket: the name before it says more.
    fn called(&self, range: Range<usize>) -> Range<usize> {
        let before = self.text.get(..range.start).unwrap_or("").trim_end();
        let name = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if self.text.get(range.clone()) == Some("(") && name.len() < before.len() {
            return name.len()..before.len();
        }
        range
    }

    fn check(&mut self, node: &mut IdedExpr) -> Type {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            if self.nodes == MAX_NODES + 1 {
                self.report(
                    0..self.text.len(),
                    format!("a condition has at most {MAX_NODES} nodes"),
                );
            }
            return Type::Any;
        }
        if let Some(name) = fact_name(node) {
            return self.fact(node, &name);
        }
        let range = self.range(node.id);
        match &mut node.expr {
            Expr::Literal(literal) => self.literal(literal, range),
            Expr::Ident(name) => {
                let name = name.clone();
                self.identifier(&name, range)
            }
            Expr::Call(call) if Release::of(&call.func_name).is_some() => self.release(call, range),
            Expr::Call(call) => {
                let target = call.target.as_deref_mut().map(|target| self.check(target));
                let arguments: Vec<Type> = call
                    .args
                    .iter_mut()
                    .map(|argument| self.check(argument))
                    .collect();
                self.call(&call.func_name, target, &arguments, range)
            }
            Expr::List(list) => self.list(&mut list.elements, range),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, range),
            Expr::Select(select) => {
                let field = select.field.clone();
                self.report(
                    range,
                    format!("only facts have parts; `.{field}` is not a part of one"),
                )
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                self.report(range, "maps and messages are not part of the condition language")
            }
        }
    }

    /// Checks a path and makes it an identifier.
    fn fact(&mut self, node: &mut IdedExpr, name: &FactName) -> Type {
        let range = self.path_range(name);
        match named_fact(&name.path(), self.scope) {
            Err(message) => self.report(range, message),
            Ok(fact) if name.presence => {
                node.expr = Expr::Ident(format!("?{}", fact.path));
                Type::Bool
            }
            Ok(fact) => {
                node.expr = Expr::Ident(fact.path.to_owned());
                Type::of(fact.kind)
            }
        }
    }

    /// From the first character of a path to its last; blanks may stand around its dots.
    fn path_range(&self, name: &FactName) -> Range<usize> {
        let start = self.range(name.root).start;
        let mut at = start;
        for segment in &name.segments {
            let rest = self.text.get(at..).unwrap_or("");
            at += rest.find(segment.as_str()).unwrap_or(0) + segment.len();
        }
        start..at.min(self.text.len())
    }

    fn identifier(&mut self, name: &str, range: Range<usize>) -> Type {
        if let Some((_, found)) = self.variables.iter().rev().find(|(variable, _)| variable == name) {
            return found.clone();
        }
        let message = match facts::example_of(name) {
            Some(example) => format!("`{name}` is a group of facts; name one of them, such as `{example}`"),
            None => format!("nothing is called `{name}`{}", facts::suggestion(name)),
        };
        self.report(range, message)
    }

    fn literal(&mut self, literal: &LiteralValue, range: Range<usize>) -> Type {
        match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::Double(_) => Type::Double,
            LiteralValue::String(_) => Type::Text,
            LiteralValue::UInt(_) => self.report(range, "facts are never unsigned; leave out the `u`"),
            LiteralValue::Null => self.report(range, "no fact is null; ask `has(...)` whether it is there"),
            LiteralValue::Bytes(_) => {
                self.report(range, "byte strings are not part of the condition language")
            }
        }
    }

    /// `version_at_least('0.10.2')` and its kin: the release is written out, so that it can be read now.
    fn release(&mut self, call: &CallExpr, range: Range<usize>) -> Type {
        if !self.scope.knows(Scope::Deployment) {
            let message = format!("a rule with `scope: {}` knows no engine", self.scope.word());
            return self.report(range, message);
        }
        let literal = match call.args.as_slice() {
            [only] if call.target.is_none() => match &only.expr {
                Expr::Literal(LiteralValue::String(text)) => Some((only.id, text.inner())),
                _ => None,
            },
            _ => None,
        };
        let Some((id, text)) = literal else {
            let message = format!("`{}` takes a release in quotes, such as '0.10.2'", call.func_name);
            return self.report(range, message);
        };
        if Version::parse(text).is_none() {
            let message = format!("`{text}` is no release, such as '0.10.2'");
            let range = self.range(id);
            return self.report(range, message);
        }
        Type::Bool
    }

    fn list(&mut self, elements: &mut [IdedExpr], range: Range<usize>) -> Type {
        let mut item = Type::Any;
        for element in elements {
            let next = self.check(element);
            let Some(joined) = item.clone().join(next.clone()) else {
                let message = format!("a list of one type holds {} and {}", item.words(), next.words());
                return self.report(range, message);
            };
            item = joined;
        }
        Type::List(Box::new(item))
    }

    fn call(&mut self, name: &str, target: Option<Type>, arguments: &[Type], range: Range<usize>) -> Type {
        match (target, arguments) {
            (None, [one]) => self.unary(name, one, range),
            (None, [one, two]) => self.binary(name, one, two, range),
            (None, [condition, one, two]) if name == operators::CONDITIONAL => {
                self.expect_bool(condition, &range);
                let (one, two) = (one.clone(), two.clone());
                let message = format!("the two sides of `:` are {} and {}", one.words(), two.words());
                one.join(two).unwrap_or_else(|| self.report(range, message))
            }
            (Some(target), []) if name == "size" => self.unary(name, &target, range),
            (Some(Type::Text | Type::Any), [Type::Text | Type::Any])
                if matches!(name, "contains" | "startsWith" | "endsWith") =>
            {
                Type::Bool
            }
            _ => self.unknown_call(name, range),
        }
    }

    fn unary(&mut self, name: &str, operand: &Type, range: Range<usize>) -> Type {
        match (name, operand) {
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, _) => {
                self.expect_bool(operand, &range);
                Type::Bool
            }
            (operators::NEGATE, number) if number.is_number() => number.clone(),
            ("size", Type::Text | Type::List(_) | Type::Any)
            | ("int", Type::Int | Type::Double | Type::Text | Type::Any) => Type::Int,
            ("double", Type::Int | Type::Double | Type::Text | Type::Any) => Type::Double,
            ("string", Type::Int | Type::Double | Type::Text | Type::Bool | Type::Any) => Type::Text,
            (operators::NEGATE | "size" | "int" | "double" | "string", other) => {
                let message = format!("`{}` does not take {}", symbol(name), other.words());
                self.report(range, message)
            }
            _ => self.unknown_call(name, range),
        }
    }

    fn binary(&mut self, name: &str, one: &Type, two: &Type, range: Range<usize>) -> Type {
        match name {
            operators::LOGICAL_AND | operators::LOGICAL_OR => {
                self.expect_bool(one, &range);
                self.expect_bool(two, &range);
                Type::Bool
            }
            operators::EQUALS | operators::NOT_EQUALS if one.compares_with(two) => Type::Bool,
            operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS
                if one.compares_with(two) && !matches!((one, two), (Type::List(_) | Type::Bool, _)) =>
            {
                Type::Bool
            }
            operators::IN
                if matches!(two, Type::List(item) if one.compares_with(item)) || *two == Type::Any =>
            {
                Type::Bool
            }
            operators::INDEX => match (one, two) {
                (Type::List(item), Type::Int | Type::Any) => (**item).clone(),
                _ => self.report(
                    range,
                    format!(
                        "`[...]` takes a list and an int, not {} and {}",
                        one.words(),
                        two.words()
                    ),
                ),
            },
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO => self.arithmetic(name, one, two, range),
            operators::IN if !matches!(two, Type::List(_)) => self.report(
                range,
                format!("`in` takes a list on its right, not {}", two.words()),
            ),
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::IN => {
                let two = if let (operators::IN, Type::List(item)) = (name, two) {
                    item
                } else {
                    two
                };
                let message = format!(
                    "`{}` cannot compare {} with {}",
                    symbol(name),
                    one.words(),
                    two.words()
                );
                self.report(range, message)
            }
            _ => self.unknown_call(name, range),
        }
    }

    fn arithmetic(&mut self, name: &str, one: &Type, two: &Type, range: Range<usize>) -> Type {
        let joins = name == operators::ADD && !matches!(one, Type::Bool);
        let whole = name != operators::MODULO || (*one != Type::Double && *two != Type::Double);
        match one.clone().join(two.clone()) {
            Some(result) if whole && (result.is_number() || joins) => result,
            None if one.is_number() && two.is_number() => {
                let message = format!(
                    "`{}` does not mix an int with a double: write `double(...)` around the int",
                    symbol(name)
                );
                self.report(range, message)
            }
            _ => {
                let message = format!(
                    "`{}` does not take {} and {}",
                    symbol(name),
                    one.words(),
                    two.words()
                );
                self.report(range, message)
            }
        }
    }

    fn unknown_call(&mut self, name: &str, range: Range<usize>) -> Type {
        const FUNCTIONS: [&str; 13] = [
            "has",
            "size",
            "contains",
            "startsWith",
            "endsWith",
            "int",
            "double",
            "string",
            "all",
            "exists",
            "exists_one",
            "map",
            "filter",
        ];
        let message = if FUNCTIONS.contains(&name) {
            format!("`{name}` does not take these arguments")
        } else {
            let known = FUNCTIONS.into_iter().chain(RELEASES.map(|(name, _)| name));
            format!("no function `{}`{}", symbol(name), did_you_mean(name, known))
        };
        self.report(range, message)
    }

    fn expect_bool(&mut self, found: &Type, range: &Range<usize>) {
        if !matches!(found, Type::Bool | Type::Any) {
            let message = format!("needs true or false here, this is {}", found.words());
            self.report(range.clone(), message);
        }
    }

    /// `all`, `exists`, `exists_one`, `map` and `filter` after CEL expanded them.
    fn comprehension(&mut self, loops: &mut ComprehensionExpr, range: Range<usize>) -> Type {
        if facts::example_of(&loops.iter_var).is_some() {
            let message = format!(
                "`{}` is a group of facts; call the variable something else",
                loops.iter_var
            );
            return self.report(range, message);
        }
        // What is gone through is worked out once: a loop in it stands beside this one, not inside.
        let item = match self.check(&mut loops.iter_range) {
            Type::List(item) => *item,
            Type::Any => Type::Any,
            other => {
                let message = format!("only a list can be gone through, this is {}", other.words());
                self.report(range.clone(), message)
            }
        };
        self.loops += 1;
        if self.loops > MAX_NESTED_LOOPS {
            self.report(range, "loops do not nest: each level multiplies the work");
        }
        let start = self.check(&mut loops.accu_init);
        self.variables.push((loops.iter_var.clone(), item));
        self.variables.push((loops.accu_var.clone(), start));
        self.check(&mut loops.loop_cond);
        let step = self.check(&mut loops.loop_step);
        if let Some((_, accumulated)) = self.variables.last_mut() {
            *accumulated = step;
        }
        let result = self.check(&mut loops.result);
        self.variables.truncate(self.variables.len().saturating_sub(2));
        self.loops -= 1;
        result
    }
}

/// A dotted name, as a node of the syntax tree spells it.
struct FactName {
    segments: Vec<String>,
    /// The node of the first segment.
    root: u64,
    /// True for `has(...)`.
    presence: bool,
}

impl FactName {
    fn path(&self) -> String {
        self.segments.join(".")
    }
}

/// The dotted name of a selection; `None` for anything else.
fn fact_name(node: &IdedExpr) -> Option<FactName> {
    let Expr::Select(select) = &node.expr else {
        return None;
    };
    let presence = select.test;
    let mut segments = vec![select.field.clone()];
    let mut operand = &select.operand;
    loop {
        match &operand.expr {
            Expr::Select(inner) if !inner.test => {
                segments.push(inner.field.clone());
                operand = &inner.operand;
            }
            Expr::Ident(name) => {
                segments.push(name.clone());
                segments.reverse();
                return Some(FactName {
                    segments,
                    root: operand.id,
                    presence,
                });
            }
            _ => return None,
        }
    }
}

/// Refuses texts on which the recursive parser could use up its stack: too long, too deep, or chains of too
/// many words and signs (2 MB last for about 1,400 links of `a.a.a`, measured in a debug build). Brackets in
/// strings count too: no condition needs so many.
fn bounded(text: &str) -> Result<(), Problem> {
    if text.len() > MAX_LENGTH {
        let message = format!(
            "a condition has at most {MAX_LENGTH} bytes, this one {}",
            text.len()
        );
        return Err(Problem::new(0..text.len(), message));
    }
    let (mut depth, mut tokens, mut in_word) = (0_usize, 0_usize, false);
    for (at, c) in text.char_indices() {
        let word = c.is_alphanumeric() || c == '_';
        let inside = c.is_whitespace() || (word && in_word);
        tokens += usize::from(!inside);
        in_word = word;
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Problem::new(
                at..at + 1,
                format!("brackets nest at most {MAX_DEPTH} deep"),
            ));
        }
        if tokens > MAX_TOKENS {
            let message = format!("a condition has at most {MAX_TOKENS} words and signs");
            return Err(Problem::new(0..text.len(), message));
        }
    }
    Ok(())
}

/// An operator as people write it: CEL calls `>` `_>_`.
fn symbol(name: &str) -> &str {
    match name {
        operators::CONDITIONAL => "? :",
        operators::IN => "in",
        other => other.trim_matches('_'),
    }
}

fn syntax(text: &str, (line, column): (isize, isize), message: &str) -> Problem {
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.get(before..).unwrap_or("");
    let at = before
        + rest
            .char_indices()
            .nth(column - 1)
            .map_or(rest.len(), |(at, _)| at);
    let width = text
        .get(at..)
        .and_then(|rest| rest.chars().next())
        .map_or(0, char::len_utf8);
    // A condition that ends too early is shown at its last character.
    let last = text.trim_end().char_indices().next_back().map_or(0, |(at, _)| at);
    let range = if width == 0 {
        last..text.trim_end().len()
    } else {
        at..at + width
    };
    Problem::new(range, format!("not a condition: {}", plainly(message)))
}

/// The parser's words without the list of every token it would have taken.
fn plainly(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message);
    let found = first.split(" expecting").next().unwrap_or(first);
    if found.contains("<EOF>") {
        return "it ends too early".to_owned();
    }
    let found = found.trim_start_matches("Syntax error: ");
    match found.split_once(" input ") {
        Some((_, token)) => format!("{token} makes no sense here"),
        None => found.to_owned(),
    }
}
