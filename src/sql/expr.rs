//! Expressions: one rule a level of precedence, loosest first.
//!
//! Knows no types and no functions. The subtle thing: a level with any number of operands is a loop, and nesting is
//! bounded both on the way down (the parser's) and on the way up ([`Expr::MAX_HEIGHT`]), so no input exhausts the stack.

use super::ast::{BinaryOp, ColumnRef, Expr, ExprKind, Ident, TimeUnit, UnaryOp, When};
use super::keyword::is_reserved;
use super::lexer::TokenKind;
use super::parser::{Parser, Parsing};
use crate::diagnostic::{Diagnostic, Span};

/// Functions whose first argument is a unit of time, even one that could be a name, such as DAY.
const UNIT_FUNCTIONS: [&str; 6] = ["DATEADD", "DATESUB", "TIMEADD", "TIMESUB", "TIMESTAMPADD", "TIMESTAMPSUB"];

const COMPARISONS: [(&str, BinaryOp); 7] = [
    ("=", BinaryOp::Eq),
    ("<>", BinaryOp::NotEq),
    ("!=", BinaryOp::NotEq),
    ("<", BinaryOp::Lt),
    ("<=", BinaryOp::LtEq),
    (">", BinaryOp::Gt),
    (">=", BinaryOp::GtEq),
];

/// Operators with two operands of the levels below comparison, loosest first.
const LEVELS: [&[(&str, BinaryOp)]; 3] = [
    &[("||", BinaryOp::Concat)],
    &[("+", BinaryOp::Add), ("-", BinaryOp::Subtract)],
    &[("*", BinaryOp::Multiply), ("/", BinaryOp::Divide), ("%", BinaryOp::Modulo)],
];

impl Parser<'_> {
    /// Any expression.
    pub(super) fn expression(&mut self) -> Parsing<Expr> {
        self.nested(Self::disjunction)
    }

    fn disjunction(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let first = self.conjunction()?;
        if !self.accept_operator("OR") {
            return Ok(first);
        }
        let mut terms = vec![first, self.conjunction()?];
        while self.accept_operator("OR") {
            terms.push(self.conjunction()?);
        }
        self.node(ExprKind::Or(terms), start)
    }

    fn conjunction(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let first = self.negation()?;
        if !self.accept_operator("AND") {
            return Ok(first);
        }
        let mut terms = vec![first, self.negation()?];
        while self.accept_operator("AND") {
            terms.push(self.negation()?);
        }
        self.node(ExprKind::And(terms), start)
    }

    fn negation(&mut self) -> Parsing<Expr> {
        let start = self.start();
        if !self.accept("NOT") {
            return self.predicate();
        }
        let operand = Box::new(self.nested(Self::negation)?);
        self.node(ExprKind::Unary { op: UnaryOp::Not, operand }, start)
    }

    /// A value with at most one predicate after it.
    fn predicate(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let value = self.value(0)?;
        if !self.at_predicate() {
            return Ok(value);
        }
        let kind = self.predicate_on(Box::new(value))?;
        let predicate = self.node(kind, start)?;
        if self.at_predicate() {
            let error = Diagnostic::user("Comparisons cannot be chained").at(self.token().span);
            return Err(error.help("join two comparisons with AND, or put one in parentheses"));
        }
        Ok(predicate)
    }

    fn at_predicate(&mut self) -> bool {
        let found = self.comparison().is_some() || ["IS", "BETWEEN", "IN", "LIKE"].iter().any(|w| self.at_word(w));
        let negated = ["BETWEEN", "IN", "LIKE"].iter().any(|w| self.at_words(&["NOT", w]));
        if !found && !negated {
            self.hint(&["BETWEEN", "LIKE"]);
        }
        found || negated
    }

    fn comparison(&self) -> Option<BinaryOp> {
        COMPARISONS.iter().find(|(symbol, _)| self.at_symbol(symbol)).map(|(_, op)| *op)
    }

    fn predicate_on(&mut self, operand: Box<Expr>) -> Parsing<ExprKind> {
        if let Some(op) = self.comparison() {
            self.advance();
            let right = Box::new(self.value(0)?);
            return Ok(ExprKind::Binary { op, left: operand, right });
        }
        if self.accept("IS") {
            return self.is_predicate(operand);
        }
        let negated = self.accept("NOT");
        if self.accept("BETWEEN") {
            let low = Box::new(self.value(0)?);
            self.expect("AND")?;
            let high = Box::new(self.value(0)?);
            return Ok(ExprKind::Between { operand, low, high, negated });
        }
        if self.accept("IN") {
            let list = self.parenthesized(Self::expression)?;
            return Ok(ExprKind::In { operand, list, negated });
        }
        self.expect("LIKE")?;
        let pattern = Box::new(self.value(0)?);
        let escape = if self.accept("ESCAPE") { Some(self.escape_character()?) } else { None };
        Ok(ExprKind::Like { operand, pattern, escape, negated })
    }

    fn is_predicate(&mut self, operand: Box<Expr>) -> Parsing<ExprKind> {
        let negated = self.accept("NOT");
        if self.accept("NULL") {
            return Ok(ExprKind::IsNull { operand, negated });
        }
        self.expect_all(&["DISTINCT", "FROM"])?;
        let right = Box::new(self.value(0)?);
        Ok(ExprKind::IsDistinctFrom { left: operand, right, negated })
    }

    fn escape_character(&mut self) -> Parsing<char> {
        let text = self.string("the escape character")?;
        let mut chars = text.value.chars();
        match (chars.next(), chars.next()) {
            (Some(escape), None) => Ok(escape),
            _ => {
                let message = format!("The escape of a LIKE must be exactly one character, not '{}'", text.value);
                Err(Diagnostic::user(message).at(text.span()))
            }
        }
    }

    /// Operands and operators of the levels from `loosest` up.
    fn value(&mut self, loosest: usize) -> Parsing<Expr> {
        let start = self.start();
        let mut left = self.signed()?;
        while let Some((level, op)) = self.operator(loosest) {
            self.advance();
            let right = Box::new(self.value(level + 1)?);
            left = self.node(ExprKind::Binary { op, left: Box::new(left), right }, start)?;
        }
        Ok(left)
    }

    fn operator(&self, loosest: usize) -> Option<(usize, BinaryOp)> {
        let levels = LEVELS.iter().enumerate().skip(loosest);
        let mut all = levels.flat_map(|(level, ops)| ops.iter().map(move |(symbol, op)| (level, *symbol, *op)));
        all.find(|(_, symbol, _)| self.at_symbol(symbol)).map(|(level, _, op)| (level, op))
    }

    /// `+ x`, `- x`, or what binds tighter; a minus right before a number belongs to the number.
    fn signed(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let op = match (self.token().text, self.ahead(1).kind == TokenKind::Number) {
            ("-", false) => UnaryOp::Minus,
            ("+", _) => UnaryOp::Plus,
            _ => return self.zoned(),
        };
        self.advance();
        let operand = Box::new(self.nested(Self::signed)?);
        self.node(ExprKind::Unary { op, operand }, start)
    }

    fn zoned(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let mut expr = self.postfix()?;
        while self.at_word("AT") {
            self.expect_all(&["AT", "TIME", "ZONE"])?;
            let zone = self.string("the name of a time zone")?;
            expr = self.node(ExprKind::AtTimeZone { operand: Box::new(expr), zone }, start)?;
        }
        Ok(expr)
    }

    fn postfix(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let mut expr = self.primary()?;
        loop {
            let base = |expr| Box::new(expr);
            if self.at_symbol("[") {
                self.advance();
                let index = Box::new(self.expression()?);
                self.expect_symbol("]")?;
                expr = self.node(ExprKind::Subscript { base: base(expr), index }, start)?;
            } else if self.at_symbol("->") && !self.ahead(1).is_symbol("*") {
                self.advance();
                let field = self.name("the name of a field")?;
                expr = self.node(ExprKind::Field { base: base(expr), field }, start)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Parsing<Expr> {
        let start = self.start();
        if let Some(literal) = self.accept_literal()? {
            return self.node(ExprKind::Literal(literal), start);
        }
        if self.at_symbol("(") {
            return self.in_parentheses();
        }
        let next = self.ahead(1);
        let (called, indexed) = (next.is_symbol("("), next.is_symbol("["));
        let token = self.token();
        let kind = match () {
            () if token.is_word("CASE") => self.case()?,
            () if token.is_word("CAST") => self.cast()?,
            () if token.is_word("ARRAY") && indexed => self.array()?,
            () if token.is_word("MAP") && called => self.map()?,
            () if token.is_word("STRUCT") && called => self.structure()?,
            () => return self.named(),
        };
        self.node(kind, start)
    }

    fn in_parentheses(&mut self) -> Parsing<Expr> {
        self.expect_symbol("(")?;
        if self.at_word("SELECT") {
            let error = Diagnostic::user("A subquery cannot stand in an expression").at(self.token().span);
            return Err(error.help("put it in FROM, or write a join"));
        }
        let expr = self.expression()?;
        self.expect_symbol(")")?;
        Ok(expr)
    }

    /// A column, a call, or a wrong typed literal.
    fn named(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let name = self.name("an expression")?;
        if let TokenKind::String(_) = self.token().kind {
            let error = Diagnostic::user(format!("Unknown type: {}", name.name)).at(name.span());
            return Err(error.help("only DECIMAL '1.5' may stand before a string; for other types use CAST('…' AS …)"));
        }
        let kind = if self.at_symbol("(") {
            self.call(name)?
        } else if self.at_symbol(".") {
            self.advance();
            let column = self.name("the name of a column")?;
            ExprKind::Column(ColumnRef { qualifier: Some(name), name: column })
        } else {
            ExprKind::Column(ColumnRef { qualifier: None, name })
        };
        self.node(kind, start)
    }

    fn call(&mut self, name: Ident) -> Parsing<ExprKind> {
        self.expect_symbol("(")?;
        let mut args = Vec::new();
        if self.at_symbol("*") && self.ahead(1).is_symbol(")") {
            self.advance();
            self.advance();
            return Ok(ExprKind::Call { name, star: true, args });
        }
        if self.accept_symbol(")") {
            return Ok(ExprKind::Call { name, star: false, args });
        }
        if self.at_word("DISTINCT") {
            let error = Diagnostic::user("DISTINCT cannot stand in a call").at(self.token().span);
            return Err(error.help("use COUNT_DISTINCT or COLLECT_SET"));
        }
        loop {
            let arg = self.argument(&name, &args)?;
            args.push(arg);
            if !self.accept_symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        Ok(ExprKind::Call { name, star: false, args })
    }

    fn argument(&mut self, function: &Ident, before: &[Expr]) -> Parsing<Expr> {
        let start = self.start();
        if self.at_lambda() {
            return self.nested(Self::lambda);
        }
        if let Some(lambda) = before.iter().find(|arg| matches!(arg.kind, ExprKind::Lambda { .. })) {
            let error = Diagnostic::user("A lambda must follow all other arguments").at(lambda.span());
            return Err(error.help("put it last in the call"));
        }
        let leads = before.is_empty() && UNIT_FUNCTIONS.contains(&function.as_str());
        match self.unit_argument(leads) {
            Some(unit) => {
                self.advance();
                self.node(ExprKind::Unit(unit), start)
            }
            None => self.expression(),
        }
    }

    /// The unit of time that is next and alone in its argument; a word that may be a name counts only with `leads`.
    fn unit_argument(&self, leads: bool) -> Option<TimeUnit> {
        let token = self.token();
        let alone = self.ahead(1).is_symbol(",") || self.ahead(1).is_symbol(")");
        let meant = token.kind == TokenKind::Word && (leads || is_reserved(token.text));
        TimeUnit::from_keyword(token.text).filter(|_| alone && meant)
    }

    fn at_lambda(&self) -> bool {
        let is_name = |by: usize| matches!(self.ahead(by).kind, TokenKind::Word | TokenKind::Quoted(_));
        if !self.at_symbol("(") {
            return is_name(0) && self.ahead(1).is_symbol("=>");
        }
        let mut by = 1;
        while is_name(by) && self.ahead(by + 1).is_symbol(",") {
            by += 2;
        }
        is_name(by) && self.ahead(by + 1).is_symbol(")") && self.ahead(by + 2).is_symbol("=>")
    }

    fn lambda(&mut self) -> Parsing<Expr> {
        let start = self.start();
        let parameter = |p: &mut Self| p.name("the name of a lambda's parameter");
        let params = if self.at_symbol("(") { self.parenthesized(parameter)? } else { vec![parameter(self)?] };
        self.expect_symbol("=>")?;
        let body = Box::new(self.expression()?);
        self.node(ExprKind::Lambda { params, body }, start)
    }

    fn case(&mut self) -> Parsing<ExprKind> {
        self.expect("CASE")?;
        let operand = if self.at_word("WHEN") { None } else { Some(Box::new(self.expression()?)) };
        let mut whens = Vec::new();
        while self.accept("WHEN") {
            let condition = self.expression()?;
            self.expect("THEN")?;
            whens.push(When { condition, result: self.expression()? });
        }
        if whens.is_empty() {
            return Err(self.unexpected());
        }
        let otherwise = if self.accept("ELSE") { Some(Box::new(self.expression()?)) } else { None };
        self.expect("END")?;
        Ok(ExprKind::Case { operand, whens, otherwise })
    }

    fn cast(&mut self) -> Parsing<ExprKind> {
        self.expect("CAST")?;
        self.expect_symbol("(")?;
        let operand = Box::new(self.expression()?);
        self.expect("AS")?;
        let to = self.type_name()?;
        self.expect_symbol(")")?;
        Ok(ExprKind::Cast { operand, to })
    }

    fn array(&mut self) -> Parsing<ExprKind> {
        self.expect("ARRAY")?;
        self.expect_symbol("[")?;
        let items = if self.at_symbol("]") { Vec::new() } else { self.list(Self::expression)? };
        self.expect_symbol("]")?;
        Ok(ExprKind::Array(items))
    }

    fn map(&mut self) -> Parsing<ExprKind> {
        self.expect("MAP")?;
        let entries = self.assignments(Self::expression)?;
        Ok(ExprKind::Map(entries))
    }

    fn structure(&mut self) -> Parsing<ExprKind> {
        self.expect("STRUCT")?;
        let fields = self.assignments(|p| p.name("the name of a field"))?;
        Ok(ExprKind::Struct(fields))
    }

    /// `( left := expression, … )`, maybe none.
    fn assignments<L>(&mut self, left: impl Fn(&mut Self) -> Parsing<L>) -> Parsing<Vec<(L, Expr)>> {
        self.expect_symbol("(")?;
        if self.accept_symbol(")") {
            return Ok(Vec::new());
        }
        let pairs = self.list(|p| {
            let name = left(p)?;
            p.expect_symbol(":=")?;
            Ok((name, p.expression()?))
        })?;
        self.expect_symbol(")")?;
        Ok(pairs)
    }

    /// A node from `start` to here, unless the tree has become too high.
    fn node(&self, kind: ExprKind, start: usize) -> Parsing<Expr> {
        let span: Span = self.since(start);
        let expr = Expr::new(kind, span);
        if expr.height() > Expr::MAX_HEIGHT { Err(self.too_deep(span)) } else { Ok(expr) }
    }
}
