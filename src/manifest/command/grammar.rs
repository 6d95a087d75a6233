//! Tokens put together to commands and the constructs around them.
//!
//! Constructs are not nested here: their words open and close, and a script that never closes one is read all the
//! same.

use super::lexer::Token;
use super::shell::{Item, RawWord, Simple};

/// Puts tokens together to items.
pub(super) struct Grammar<'t> {
    value: &'t str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    items: Vec<Item>,
    /// Constructs that are open.
    open: Vec<Construct>,
    simple: Simple,
}

/// Constructs inside each other that are told apart.
const MAX_NESTING: usize = 100;

/// A construct that some word closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Construct {
    /// `if`, `while`, `until`, `select`.
    Branches,
    Case,
    /// The item of the `for`.
    For(usize),
    /// A `{`, with the item of its function where it is a function's body.
    Brace(Option<usize>),
}

impl<'t> Grammar<'t> {
    pub(super) fn new(value: &'t str, tokens: Vec<Token>) -> Self {
        Self {
            value,
            tokens: tokens.into_iter().peekable(),
            items: Vec::new(),
            open: Vec::new(),
            simple: Simple::default(),
        }
    }

    pub(super) fn run(mut self) -> Vec<Item> {
        while let Some(token) = self.tokens.next() {
            match token {
                Token::Word(word) => self.word(word),
                Token::Redirect(redirect) => self.simple.redirects.push(redirect),
                Token::Newline => self.end(Item::Next),
                Token::Operator(operator, at) => self.operator(operator, at),
            }
        }
        self.end(Item::Next);
        for construct in std::mem::take(&mut self.open).into_iter().rev() {
            self.close_at(construct);
        }
        self.items
    }

    /// Ends the command that is being read.
    fn end(&mut self, after: Item) {
        let simple = std::mem::take(&mut self.simple);
        if !simple.words.is_empty() || !simple.redirects.is_empty() {
            self.items.push(Item::Command(simple));
            self.items.push(after);
        } else if !matches!(after, Item::Next) {
            self.items.push(after);
        }
    }

    fn word(&mut self, word: RawWord) {
        let bare = if self.simple.words.is_empty() {
            word.bare(self.value)
        } else {
            None
        };
        match bare {
            Some(bare) if self.keyword(bare) => {}
            Some("[[") => {
                self.simple.words.push(word);
                self.double_brackets();
            }
            Some(name) if matches!(self.tokens.peek(), Some(Token::Operator("(", _))) => {
                self.tokens.next();
                if matches!(self.tokens.peek(), Some(Token::Operator(")", _))) {
                    self.tokens.next();
                    self.function(name.to_owned());
                }
            }
            _ => self.simple.words.push(word),
        }
    }

    /// `[[ ... ]]` is one command whatever stands in it.
    fn double_brackets(&mut self) {
        for token in self.tokens.by_ref() {
            match token {
                Token::Word(word) => {
                    let last = word.bare(self.value) == Some("]]");
                    self.simple.words.push(word);
                    if last {
                        return;
                    }
                }
                Token::Newline => return,
                Token::Redirect(_) | Token::Operator(..) => {}
            }
        }
    }

    /// True when a word at the beginning of a command is one of the grammar's.
    fn keyword(&mut self, word: &str) -> bool {
        match word {
            "if" => self.begin(Construct::Branches, true),
            "while" | "until" => self.begin(Construct::Branches, false),
            "then" => self.items.push(Item::Then),
            "!" => self.simple.negated = true,
            "do" | "time" => {}
            "else" | "elif" => self.items.push(Item::Other),
            "fi" => self.close(|open| open == Construct::Branches),
            "done" => self.close(|open| matches!(open, Construct::Branches | Construct::For(_))),
            "esac" => self.close(|open| open == Construct::Case),
            "{" => {
                self.push(Construct::Brace(None));
            }
            "}" => self.close(|open| matches!(open, Construct::Brace(_))),
            "for" | "select" => self.for_loop(),
            "case" => self.case(),
            "function" => {
                if let Some(name) = self.next_bare() {
                    while matches!(self.tokens.peek(), Some(Token::Operator("(" | ")", _))) {
                        self.tokens.next();
                    }
                    self.function(name);
                }
            }
            _ => return false,
        }
        true
    }

    fn begin(&mut self, construct: Construct, decides: bool) {
        if self.push(construct) {
            self.items.push(Item::Open(decides));
        }
    }

    /// False where constructs are nested deeper than anyone writes; the deepest are then not told apart.
    fn push(&mut self, construct: Construct) -> bool {
        let room = self.open.len() < MAX_NESTING;
        if room {
            self.open.push(construct);
        }
        room
    }

    /// Closes the innermost construct that `matches`, and what was left open inside of it.
    fn close(&mut self, matches: impl Fn(Construct) -> bool) {
        let Some(at) = self.open.iter().rposition(|open| matches(*open)) else {
            return;
        };
        for construct in self.open.split_off(at).into_iter().rev() {
            self.close_at(construct);
        }
    }

    fn close_at(&mut self, construct: Construct) {
        match construct {
            Construct::Branches | Construct::Case => self.items.push(Item::Close),
            Construct::For(item) => {
                let end = self.items.len();
                if let Some(Item::For { end: known, .. }) = self.items.get_mut(item) {
                    *known = end;
                }
                self.items.push(Item::Done);
            }
            Construct::Brace(Some(item)) => {
                let end = self.items.len();
                if let Some(Item::Function { end: known, .. }) = self.items.get_mut(item) {
                    *known = end;
                }
            }
            Construct::Brace(None) => {}
        }
    }

    fn function(&mut self, name: String) {
        while matches!(self.tokens.peek(), Some(Token::Newline)) {
            self.tokens.next();
        }
        if self.next_is("{") {
            self.tokens.next();
            if !self.push(Construct::Brace(Some(self.items.len()))) {
                return;
            }
            self.items.push(Item::Function {
                name,
                end: usize::MAX,
            });
        }
    }

    fn next_is(&mut self, wanted: &str) -> bool {
        let value = self.value;
        matches!(self.tokens.peek(), Some(Token::Word(word)) if word.bare(value) == Some(wanted))
    }

    fn next_bare(&mut self) -> Option<String> {
        let value = self.value;
        let bare = match self.tokens.peek() {
            Some(Token::Word(word)) => word.bare(value).map(str::to_owned),
            _ => None,
        };
        if bare.is_some() {
            self.tokens.next();
        }
        bare
    }

    fn for_loop(&mut self) {
        let Some(name) = self.next_bare() else {
            // `for ((...))`
            self.begin(Construct::Branches, false);
            return;
        };
        let mut words = Vec::new();
        if self.next_is("in") {
            self.tokens.next();
            while let Some(Token::Word(_)) = self.tokens.peek() {
                if let Some(Token::Word(word)) = self.tokens.next() {
                    words.push(word);
                }
            }
        }
        if !self.push(Construct::For(self.items.len())) {
            return;
        }
        let end = usize::MAX;
        self.items.push(Item::For { name, words, end });
    }

    fn case(&mut self) {
        self.begin(Construct::Case, false);
        while let Some(token) = self.tokens.peek() {
            let value = self.value;
            let last = matches!(token, Token::Word(word) if word.bare(value) == Some("in"));
            if matches!(token, Token::Newline) {
                return;
            }
            self.tokens.next();
            if last {
                break;
            }
        }
        self.pattern();
    }

    /// Passes over the pattern of a `case`, up to its `)`.
    fn pattern(&mut self) {
        while matches!(self.tokens.peek(), Some(Token::Newline)) {
            self.tokens.next();
        }
        if self.next_is("esac") {
            return;
        }
        while let Some(token) = self.tokens.peek() {
            let last = matches!(token, Token::Operator(")", _));
            if matches!(token, Token::Newline) {
                return;
            }
            self.tokens.next();
            if last {
                return;
            }
        }
    }

    fn operator(&mut self, operator: &str, at: usize) {
        match operator {
            "|" | "|&" => self.end(Item::Pipe),
            "||" => self.end(Item::Or),
            "&&" => self.end(Item::And),
            ";;" | ";&" | ";;&" => {
                self.end(Item::Next);
                if self.open.contains(&Construct::Case) {
                    self.items.push(Item::Other);
                    self.pattern();
                }
            }
            "(" if matches!(self.tokens.peek(), Some(Token::Operator("(", next)) if *next == at + 1) => {
                self.end(Item::Next);
                self.arithmetic();
            }
            _ => self.end(Item::Next),
        }
    }

    /// `((...))` as a command holds no commands.
    fn arithmetic(&mut self) {
        let mut depth = 1_usize;
        for token in self.tokens.by_ref() {
            match token {
                Token::Operator("(", _) => depth += 1,
                Token::Operator(")", _) => depth -= 1,
                Token::Newline => return,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}
