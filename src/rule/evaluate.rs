//! Runs checked expressions.
//!
//! In: the syntax tree that [`super::condition`] has checked. Out: an [`Expression`] that reads a fact only when it is
//! reached and allocates nothing for numbers and comparisons: rules are evaluated on every scenario. It
//! follows CEL, with absence for CEL's errors: `&&`, `||` and the loops built on them say what is certain
//! whatever the absent part is, everything else that needs an absent part is absent. A test holds it against the
//! interpreter of the `cel` crate.

use std::borrow::Cow;
use std::cmp::Ordering;

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use super::fact_table::engine_version;
use super::facts::{self, FactDefinition, View};
use crate::engine::Version;

/// A value while an expression is worked out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    /// A whole number.
    Int(i64),
    /// Another number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Words.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Self>),
}

impl<'a> From<facts::Value<'a>> for Value<'a> {
    fn from(value: facts::Value<'a>) -> Self {
        match value {
            facts::Value::Int(number) => Self::Int(number),
            facts::Value::Double(number) => Self::Double(number),
            facts::Value::Bool(truth) => Self::Bool(truth),
            facts::Value::Text(words) => Self::Text(words),
            facts::Value::List(words) => Self::List(words.into_iter().map(Self::Text).collect()),
        }
    }
}

/// How a release is compared with the one of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    AtLeast,
    Before,
    MayBeAtLeast,
    MayBeBefore,
}

/// The functions that compare releases.
pub(super) const RELEASES: [(&str, Release); 4] = [
    ("version_at_least", Release::AtLeast),
    ("version_before", Release::Before),
    ("version_may_be_at_least", Release::MayBeAtLeast),
    ("version_may_be_before", Release::MayBeBefore),
];

impl Release {
    pub(super) fn of(function: &str) -> Option<Self> {
        let found = RELEASES.iter().find(|(name, _)| *name == function);
        found.map(|(_, release)| *release)
    }

    fn holds(self, declared: Option<Version>, named: Version) -> bool {
        match self {
            Self::AtLeast => declared.is_some_and(|version| version >= named),
            Self::Before => declared.is_some_and(|version| version < named),
            Self::MayBeAtLeast => declared.is_none_or(|version| version >= named),
            Self::MayBeBefore => declared.is_none_or(|version| version < named),
        }
    }
}

/// A function or operator of one value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unary {
    Not,
    NotStrictlyFalse,
    Negate,
    Size,
    ToInt,
    ToDouble,
    ToText,
}

/// An operator or function of two values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    In,
    Index,
    Contains,
    StartsWith,
    EndsWith,
}

/// A checked expression, ready to run.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    Constant(Value<'static>),
    Fact(&'static FactDefinition),
    Has(&'static FactDefinition),
    /// A variable of a loop, by its place among those around it.
    Variable(usize),
    Release(Release, Version),
    Unary(Unary, Box<Self>),
    Binary(Binary, Box<[Self; 2]>),
    And(Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    If(Box<[Self; 3]>),
    List(Vec<Self>),
    Loop(Box<Loop>),
}

/// What `all`, `exists`, `filter` and `map` expand to.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    range: Expression,
    start: Expression,
    condition: Expression,
    step: Expression,
    result: Expression,
}

impl Expression {
    /// From a checked syntax tree; `None` for what checking lets no one write.
    pub(super) fn new(node: &IdedExpr) -> Option<Self> {
        lower(node, &mut Vec::new())
    }

    /// The fact, where the expression is nothing but one.
    pub(super) fn as_fact(&self) -> Option<&'static FactDefinition> {
        match self {
            Self::Fact(fact) => Some(fact),
            _ => None,
        }
    }

    /// Its value for a view; `None` where a fact that decides is absent, or where a number overflows.
    pub(super) fn value<'a>(&'a self, view: &View<'a>) -> Option<Value<'a>> {
        self.run(view, &mut Vec::new())
    }

    fn run<'a>(&'a self, view: &View<'a>, variables: &mut Vec<Option<Value<'a>>>) -> Option<Value<'a>> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Fact(fact) => fact.read(view).map(Value::from),
            Self::Has(fact) => Some(Value::Bool(fact.read(view).is_some())),
            Self::Variable(at) => variables.get(*at)?.clone(),
            Self::Release(release, named) => Some(Value::Bool(release.holds(engine_version(view), *named))),
            Self::And(sides) => decided(sides, false, view, variables),
            Self::Or(sides) => decided(sides, true, view, variables),
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                match condition.run(view, variables)? {
                    Value::Bool(true) => yes.run(view, variables),
                    Value::Bool(false) => no.run(view, variables),
                    _ => None,
                }
            }
            Self::Unary(Unary::NotStrictlyFalse, operand) => {
                let value = operand.run(view, variables);
                Some(Value::Bool(value != Some(Value::Bool(false))))
            }
            Self::Unary(function, operand) => unary(*function, operand.run(view, variables)?),
            Self::Binary(function, operands) => {
                let [one, two] = &**operands;
                let one = one.run(view, variables)?;
                binary(*function, one, two.run(view, variables)?)
            }
            Self::List(items) => {
                let items: Option<Vec<_>> = items.iter().map(|item| item.run(view, variables)).collect();
                items.map(Value::List)
            }
            Self::Loop(parts) => parts.run(view, variables),
        }
    }
}

/// `&&` and `||`: one side that decides is enough, whatever the other is.
fn decided<'a>(
    sides: &'a [Expression; 2],
    decisive: bool,
    view: &View<'a>,
    variables: &mut Vec<Option<Value<'a>>>,
) -> Option<Value<'a>> {
    let [one, two] = sides;
    let one = one.run(view, variables);
    if one == Some(Value::Bool(decisive)) {
        return one;
    }
    let two = two.run(view, variables);
    if two == Some(Value::Bool(decisive)) {
        return two;
    }
    one.and(two)
}

impl Loop {
    fn run<'a>(&'a self, view: &View<'a>, variables: &mut Vec<Option<Value<'a>>>) -> Option<Value<'a>> {
        let Value::List(items) = self.range.run(view, variables)? else {
            return None;
        };
        let depth = variables.len();
        let mut accumulated = self.start.run(view, variables);
        for item in items {
            variables.push(Some(item));
            variables.push(accumulated.take());
            let goes_on = self.condition.run(view, variables) == Some(Value::Bool(true));
            accumulated = if goes_on {
                self.step.run(view, variables)
            } else {
                variables.pop().flatten()
            };
            variables.truncate(depth);
            if !goes_on {
                break;
            }
        }
        variables.push(None);
        variables.push(accumulated);
        let result = self.result.run(view, variables);
        variables.truncate(depth);
        result
    }
}

fn unary(function: Unary, value: Value<'_>) -> Option<Value<'_>> {
    Some(match (function, value) {
        (Unary::Not, Value::Bool(truth)) => Value::Bool(!truth),
        (Unary::Negate, Value::Int(number)) => Value::Int(number.checked_neg()?),
        (Unary::Negate, Value::Double(number)) => Value::Double(-number),
        (Unary::Size, Value::Text(words)) => Value::Int(i64::try_from(words.chars().count()).ok()?),
        (Unary::Size, Value::List(items)) => Value::Int(i64::try_from(items.len()).ok()?),
        (Unary::ToInt, Value::Int(number)) => Value::Int(number),
        (Unary::ToInt, Value::Double(number)) => Value::Int(whole(number)?),
        (Unary::ToInt, Value::Text(words)) => Value::Int(words.parse().ok()?),
        (Unary::ToDouble, Value::Int(number)) => Value::Double(number as f64),
        (Unary::ToDouble, Value::Double(number)) => Value::Double(number),
        (Unary::ToDouble, Value::Text(words)) => Value::Double(words.parse().ok()?),
        (Unary::ToText, Value::Int(number)) => Value::Text(number.to_string().into()),
        (Unary::ToText, Value::Double(number)) => Value::Text(number.to_string().into()),
        (Unary::ToText, Value::Bool(truth)) => Value::Text(truth.to_string().into()),
        (Unary::ToText, Value::Text(words)) => Value::Text(words),
        _ => return None,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "checked to lie in the range")]
fn whole(number: f64) -> Option<i64> {
    (number.is_finite() && number.abs() < 9_223_372_036_854_775_000.0).then_some(number as i64)
}

fn binary<'a>(function: Binary, one: Value<'a>, two: Value<'a>) -> Option<Value<'a>> {
    let truth = |truth: bool| Some(Value::Bool(truth));
    match function {
        Binary::Equal => truth(equal(&one, &two)),
        Binary::NotEqual => truth(!equal(&one, &two)),
        Binary::Less => truth(order(&one, &two)?.is_lt()),
        Binary::LessOrEqual => truth(order(&one, &two)?.is_le()),
        Binary::Greater => truth(order(&one, &two)?.is_gt()),
        Binary::GreaterOrEqual => truth(order(&one, &two)?.is_ge()),
        Binary::In => match two {
            Value::List(items) => truth(items.iter().any(|item| equal(&one, item))),
            _ => None,
        },
        Binary::Index => match (one, two) {
            (Value::List(items), Value::Int(at)) => items.into_iter().nth(usize::try_from(at).ok()?),
            _ => None,
        },
        Binary::Contains | Binary::StartsWith | Binary::EndsWith => {
            let (Value::Text(words), Value::Text(part)) = (&one, &two) else {
                return None;
            };
            truth(match function {
                Binary::Contains => words.contains(&**part),
                Binary::StartsWith => words.starts_with(&**part),
                _ => words.ends_with(&**part),
            })
        }
        _ => arithmetic(function, one, two),
    }
}

fn arithmetic<'a>(function: Binary, one: Value<'a>, two: Value<'a>) -> Option<Value<'a>> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => {
            let result = match function {
                Binary::Add => one.checked_add(two),
                Binary::Subtract => one.checked_sub(two),
                Binary::Multiply => one.checked_mul(two),
                Binary::Divide => one.checked_div(two),
                Binary::Modulo => one.checked_rem(two),
                _ => None,
            };
            result.map(Value::Int)
        }
        (Value::Double(one), Value::Double(two)) => Some(Value::Double(match function {
            Binary::Add => one + two,
            Binary::Subtract => one - two,
            Binary::Multiply => one * two,
            Binary::Divide => one / two,
            _ => return None,
        })),
        (Value::Text(one), Value::Text(two)) if matches!(function, Binary::Add) => {
            Some(Value::Text(format!("{one}{two}").into()))
        }
        (Value::List(mut one), Value::List(two)) if matches!(function, Binary::Add) => {
            one.extend(two);
            Some(Value::List(one))
        }
        _ => None,
    }
}

/// Numbers are equal across types, as they are in CEL.
fn equal(one: &Value<'_>, two: &Value<'_>) -> bool {
    match (one, two) {
        (Value::List(one), Value::List(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| equal(one, two))
        }
        (Value::Int(_), Value::Double(_)) | (Value::Double(_), Value::Int(_)) => {
            order(one, two) == Some(Ordering::Equal)
        }
        (one, two) => one == two,
    }
}

fn order(one: &Value<'_>, two: &Value<'_>) -> Option<Ordering> {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => Some(one.cmp(two)),
        (Value::Int(one), Value::Double(two)) => (*one as f64).partial_cmp(two),
        (Value::Double(one), Value::Int(two)) => one.partial_cmp(&(*two as f64)),
        (Value::Double(one), Value::Double(two)) => one.partial_cmp(two),
        (Value::Text(one), Value::Text(two)) => Some(one.cmp(two)),
        _ => None,
    }
}

fn lower<'n>(node: &'n IdedExpr, variables: &mut Vec<&'n str>) -> Option<Expression> {
    match &node.expr {
        Expr::Literal(literal) => constant(literal).map(Expression::Constant),
        Expr::Ident(name) => identifier(name, variables),
        Expr::Call(call) => {
            if let Some(release) = Release::of(&call.func_name) {
                let Expr::Literal(LiteralValue::String(text)) = &call.args.first()?.expr else {
                    return None;
                };
                return Version::parse(text.inner()).map(|named| Expression::Release(release, named));
            }
            let mut operands = Vec::new();
            for operand in call.target.as_deref().into_iter().chain(&call.args) {
                operands.push(lower(operand, variables)?);
            }
            operation(&call.func_name, operands)
        }
        Expr::List(list) => {
            let items: Option<Vec<_>> = list.elements.iter().map(|item| lower(item, variables)).collect();
            items.map(Expression::List)
        }
        Expr::Comprehension(parts) => comprehension(parts, variables),
        Expr::Select(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => None,
    }
}

fn constant(literal: &LiteralValue) -> Option<Value<'static>> {
    Some(match literal {
        LiteralValue::Boolean(truth) => Value::Bool(*truth.inner()),
        LiteralValue::Double(number) => Value::Double(*number.inner()),
        LiteralValue::Int(number) => Value::Int(*number.inner()),
        LiteralValue::String(words) => Value::Text(words.inner().to_owned().into()),
        LiteralValue::Bytes(_) | LiteralValue::Null | LiteralValue::UInt(_) => return None,
    })
}

fn identifier(name: &str, variables: &[&str]) -> Option<Expression> {
    if let Some(at) = variables.iter().rposition(|variable| *variable == name) {
        return Some(Expression::Variable(at));
    }
    match name.strip_prefix('?') {
        Some(path) => facts::find(path).map(Expression::Has),
        None => facts::find(name).map(Expression::Fact),
    }
}

fn operation(name: &str, operands: Vec<Expression>) -> Option<Expression> {
    let one = |operands: Vec<Expression>| operands.into_iter().next().map(Box::new);
    let two = |operands: Vec<Expression>| <[Expression; 2]>::try_from(operands).ok().map(Box::new);
    let function = match name {
        operators::LOGICAL_AND => return two(operands).map(Expression::And),
        operators::LOGICAL_OR => return two(operands).map(Expression::Or),
        operators::CONDITIONAL => {
            let parts = <[Expression; 3]>::try_from(operands).ok();
            return parts.map(|parts| Expression::If(Box::new(parts)));
        }
        operators::LOGICAL_NOT => return one(operands).map(|of| Expression::Unary(Unary::Not, of)),
        operators::NOT_STRICTLY_FALSE => {
            return one(operands).map(|of| Expression::Unary(Unary::NotStrictlyFalse, of));
        }
        operators::NEGATE => return one(operands).map(|of| Expression::Unary(Unary::Negate, of)),
        "size" => return one(operands).map(|of| Expression::Unary(Unary::Size, of)),
        "int" => return one(operands).map(|of| Expression::Unary(Unary::ToInt, of)),
        "double" => return one(operands).map(|of| Expression::Unary(Unary::ToDouble, of)),
        "string" => return one(operands).map(|of| Expression::Unary(Unary::ToText, of)),
        operators::EQUALS => Binary::Equal,
        operators::NOT_EQUALS => Binary::NotEqual,
        operators::LESS => Binary::Less,
        operators::LESS_EQUALS => Binary::LessOrEqual,
        operators::GREATER => Binary::Greater,
        operators::GREATER_EQUALS => Binary::GreaterOrEqual,
        operators::ADD => Binary::Add,
        operators::SUBSTRACT => Binary::Subtract,
        operators::MULTIPLY => Binary::Multiply,
        operators::DIVIDE => Binary::Divide,
        operators::MODULO => Binary::Modulo,
        operators::IN => Binary::In,
        operators::INDEX => Binary::Index,
        "contains" => Binary::Contains,
        "startsWith" => Binary::StartsWith,
        "endsWith" => Binary::EndsWith,
        _ => return None,
    };
    two(operands).map(|operands| Expression::Binary(function, operands))
}

fn comprehension<'n>(parts: &'n ComprehensionExpr, variables: &mut Vec<&'n str>) -> Option<Expression> {
    let range = lower(&parts.iter_range, variables)?;
    let start = lower(&parts.accu_init, variables)?;
    let depth = variables.len();
    variables.push(&parts.iter_var);
    variables.push(&parts.accu_var);
    let inner = [&parts.loop_cond, &parts.loop_step, &parts.result].map(|part| lower(part, variables));
    variables.truncate(depth);
    let [condition, step, result] = inner;
    Some(Expression::Loop(Box::new(Loop {
        range,
        start,
        condition: condition?,
        step: step?,
        result: result?,
    })))
}

#[cfg(test)]
mod tests {
    //! Held against the interpreter of the `cel` crate: the same tree, the same facts, the same answer.

    use std::sync::Arc;

    use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelString};
    use cel::common::value::{CowVal, Val};
    use cel::context::VariableResolver;
    use cel::{Context, Env};

    use super::*;
    use crate::rule::Scope;
    use crate::rule::condition::checked;
    use crate::rule::world::World;

    struct Bound<'a>(View<'a>);

    impl VariableResolver for Bound<'_> {
        fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
            if let Some(path) = variable.strip_prefix('?') {
                let fact = facts::find(path)?;
                return Some(CowVal::owned(CelBool::from(fact.read(&self.0).is_some())));
            }
            Some(match facts::find(variable)?.read(&self.0)? {
                facts::Value::Int(number) => CowVal::owned(CelInt::from(number)),
                facts::Value::Double(number) => CowVal::owned(CelDouble::from(number)),
                facts::Value::Bool(truth) => CowVal::owned(CelBool::from(truth)),
                facts::Value::Text(words) => CowVal::owned(CelString::from(words)),
                facts::Value::List(words) => {
                    let items = words
                        .into_iter()
                        .map(|word| Box::new(CelString::from(word)) as Box<dyn Val + 'b>);
                    CowVal::owned(CelList::from(items.collect::<Vec<_>>()))
                }
            })
        }
    }

    fn world() -> World {
        let mut world = World::new().cell(1, 131_072, |_| {});
        let words = ["--max-model-len", "8192", "x=1"];
        let facts = words.map(|word| crate::fact::Fact::default(word.to_owned(), "test"));
        world.deployments[0].deployment.args = facts.to_vec();
        world
    }

    /// Both answers to one condition: true, false, or `None` where it cannot be worked out.
    fn both(text: &str, view: &View<'_>) -> Option<[Option<bool>; 2]> {
        let (tree, _) = checked(text, Scope::Scenario).ok()?;
        let expression = Expression::new(&tree).unwrap();
        let own = match expression.value(view) {
            Some(Value::Bool(truth)) => Some(truth),
            _ => None,
        };
        let bound = Bound(*view);
        let mut context = Context::with_env(Arc::new(Env::stdlib()));
        context.set_variable_resolver(&bound);
        let theirs = cel::Value::resolve_val(&tree, &context).ok();
        let theirs = theirs.and_then(|value| value.downcast_ref::<CelBool>().map(|truth| *truth.inner()));
        Some([own, theirs])
    }

    const TRUTHS: [&str; 18] = [
        "true",
        "machine.unified_memory",
        "has(machine.working_set_bytes)",
        "machine.working_set_bytes > 1.0",
        "scenario.context == 131072",
        "machine.compute_capability > 8.8",
        "machine.name.startsWith('2x')",
        "deployment.engine in ['mlx', 'vllm']",
        "model.num_layers / (machine.count - 2) > 0",
        "deployment.args.exists(a, a == '8192')",
        "deployment.args.all(a, size(a) > 3)",
        "deployment.args.filter(a, a.contains('=')).map(a, size(a))[0] == 3",
        "deployment.args.exists_one(a, int(a) == 8192)",
        "deployment.args.all(a, int(a) > 0)",
        "int('99999999999999999999') > 0",
        "double(model.num_layers) * 1.5 >= 48",
        "9223372036854775807 + machine.count < 0",
        "string(model.num_layers) + 'x' == '32x'",
    ];

    #[test]
    fn every_kind_of_condition_reads_as_cel_reads_it() {
        let world = world();
        for text in TRUTHS {
            let [own, theirs] = both(text, &world.view(0)).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(own, theirs, "{text}");
        }
    }

    fn condition() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let leaf = (0..TRUTHS.len()).prop_map(|at| TRUTHS[at].to_owned());
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
                inner.clone().prop_map(|a| format!("!({a})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) == ({b})")),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
            ]
        })
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

        #[test]
        fn any_condition_reads_as_cel_reads_it(text in condition()) {
            let world = world();
            if let Some([own, theirs]) = both(&text, &world.view(0)) {
                proptest::prop_assert_eq!(own, theirs, "{}", text);
            }
        }
    }

    #[test]
    fn releases_are_compared_by_their_numbers_and_an_unknown_one_only_may_be_so() {
        let mut world = world();
        let holds = |world: &World, text: &str| {
            let (tree, _) = checked(text, Scope::Deployment).unwrap_or_else(|_| panic!("{text}"));
            let value = Expression::new(&tree).unwrap();
            value.value(&world.view(0)) == Some(Value::Bool(true))
        };
        let answers =
            |world: &World| RELEASES.map(|(function, _)| holds(world, &format!("{function}('0.10.2')")));
        assert_eq!(answers(&world), [false, false, true, true], "unknown");
        assert!(holds(&world, "!engine.version_known && !has(engine.version)"));
        for (version, expected) in [
            ("v0.9.2", [false, true, false, true]),
            ("0.10.2", [true, false, true, false]),
            ("0.11", [true, false, true, false]),
            ("latest", [false, false, true, true]),
        ] {
            let version = crate::fact::Fact::default(version.to_owned(), "test");
            world.deployments[0].deployment.engine_version = Some(version);
            assert_eq!(answers(&world), expected);
        }
    }
}
