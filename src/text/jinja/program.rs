//! A compiled template with bounded cost.
//!
//! minijinja bounds instructions and recursion, and it lets filters and functions be replaced, but its operators make values of
//! any size: `{% set s = s ~ s %}` repeated forty times is a terabyte. So the compiled instructions are rewritten: operands are
//! measured before an operator, its result after it, and jumps are adjusted.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{CompiledTemplate, Instruction, Instructions, TemplateConfig, eval, make_string_output};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use self_cell::self_cell;

use super::builtins::{self, GUARD, GUARD_ITEM, GUARD_PRODUCT, GUARD_TEXTS, GUARD_TWO, SLICE};
use super::guard::STEPS;
use super::source::prepare;

/// The limit on recursion. One call of a macro counts as several.
const RECURSION: usize = 200;
/// The filter slot that tells minijinja not to cache the filter.
const NOT_CACHED: u8 = !0;

/// A variable that a template takes from its context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether the template asks anywhere if the variable is there: by `if`, `and`, `or`, `not`, `is defined` or `default`.
    pub tested: bool,
}

struct Source {
    environment: Environment<'static>,
    name: String,
    text: String,
}

struct Program<'a> {
    main: Instructions<'a>,
    blocks: BTreeMap<&'a str, Instructions<'a>>,
}

self_cell!(
    struct Compiled {
        owner: Source,
        #[covariant]
        dependent: Program,
    }
);

/// A Jinja template as transformers renders chat templates: with trimmed blocks, Python's methods on texts, lists and mappings,
/// `raise_exception`, `tojson` as `json.dumps` writes it, `{% generation %}`, `{% break %}` and `{% continue %}`.
///
/// Templates come from untrusted files, so their cost is bounded: 1 MiB of text, 5,000,000 instructions, values of 16 MiB, 256
/// MiB of work, and a depth of blocks and recursion that a browser's stack can hold. A template that exceeds a bound is an error.
pub struct JinjaTemplate(Compiled);

impl std::fmt::Debug for JinjaTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JinjaTemplate").field(&self.0.borrow_owner().name).finish()
    }
}

impl JinjaTemplate {
    /// Compiles `source`. `name` appears in messages. With `strict`, printing a missing variable is an error; without, it prints
    /// nothing.
    ///
    /// # Errors
    /// A text that is not valid Jinja or that exceeds a bound; see [`super::template_failure`].
    pub fn new(name: &str, source: String, strict: bool) -> Result<Self, Error> {
        let mut environment = builtins::environment()?;
        environment.set_fuel(Some(STEPS));
        environment.set_recursion_limit(RECURSION);
        environment.set_debug(false);
        if strict {
            environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        }
        let text = prepare(source, environment.syntax())?;
        let source = Source { environment, name: name.into(), text };
        Compiled::try_new(source, |source| Program::of(source)).map(JinjaTemplate)
    }

    /// Renders the template with this context.
    ///
    /// # Errors
    /// The template raises an exception, fails, or exceeds a bound.
    pub fn render(&self, context: Value) -> Result<String, Error> {
        self.0.with_dependent(|source, program| {
            let mut text = String::new();
            let mut out = make_string_output(&mut text);
            eval(&source.environment, &program.main, context, &program.blocks, &mut out, AutoEscape::None)?;
            Ok(text)
        })
    }

    /// Whether the template calls `function` without ever testing whether it is defined.
    pub fn calls_untested(&self, function: &str) -> bool {
        let calls = self.any_instruction(|i| matches!(i, Instruction::CallFunction(name, _) if *name == function));
        calls && !self.reads(function)
    }

    /// Whether the template reads the variable `name` anywhere.
    pub fn reads(&self, name: &str) -> bool {
        self.any_instruction(|i| matches!(i, Instruction::Lookup(found) if *found == name))
    }

    /// The variables that the template takes from its context, in the order of their first use. Names that the template has set
    /// before (`set`, `for`, `with`, the arguments of a macro) are its own, and functions are not variables.
    ///
    /// minijinja's `undeclared_variables` has no order, and leaves out `x` in `{% set x = x | trim %}`.
    pub fn variables(&self) -> Vec<Variable> {
        let program = self.0.borrow_dependent();
        let mut found = Vec::new();
        for part in std::iter::once(&program.main).chain(program.blocks.values()) {
            add_variables(part, &mut found);
        }
        found
    }

    fn any_instruction(&self, predicate: impl Fn(&Instruction<'_>) -> bool) -> bool {
        let program = self.0.borrow_dependent();
        program.blocks.values().chain([&program.main]).flat_map(instructions).any(predicate)
    }
}

impl<'a> Program<'a> {
    fn of(source: &'a Source) -> Result<Self, Error> {
        let no_escape = std::sync::Arc::new(|_: &str| AutoEscape::None);
        let config = TemplateConfig { syntax_config: source.environment.syntax().clone(), default_auto_escape: no_escape };
        let compiled = CompiledTemplate::new(&source.name, &source.text, &config)?;
        let mut blocks = BTreeMap::new();
        for (name, block) in &compiled.blocks {
            blocks.insert(*name, bounded(block)?);
        }
        Ok(Program { main: bounded(&compiled.instructions)?, blocks })
    }
}

fn instructions<'i, 'a>(list: &'i Instructions<'a>) -> impl Iterator<Item = &'i Instruction<'a>> {
    (0..).map_while(|index| list.get(index))
}

/// Adds the variables that `part` looks up and has not stored itself.
fn add_variables(part: &Instructions<'_>, found: &mut Vec<Variable>) {
    use Instruction as I;
    let macros = instructions(part).filter_map(|i| if let I::BuildMacro(_, start, _) = i { Some(*start) } else { None });
    let macros: BTreeSet<u32> = macros.collect();
    let mut scopes = vec![BTreeSet::new()];
    for (at, instruction) in (0..).zip(instructions(part)) {
        if macros.contains(&at) {
            scopes.push(BTreeSet::from(["caller"]));
        }
        match instruction {
            I::PushLoop(_) => scopes.push(BTreeSet::from(["loop"])),
            I::PushWith => scopes.push(BTreeSet::new()),
            I::PopLoopFrame | I::PopFrame | I::Return => {
                scopes.pop();
            }
            I::StoreLocal(name) => {
                if let Some(scope) = scopes.last_mut() {
                    scope.insert(*name);
                }
            }
            I::Lookup(name) if !scopes.iter().any(|scope| scope.contains(name)) => {
                let tested = allows_missing(part.get(at + 1), part.get(at + 2));
                match found.iter_mut().find(|variable| variable.name == *name) {
                    Some(known) => known.tested |= tested,
                    None => found.push(Variable { name: (*name).into(), tested }),
                }
            }
            _ => {}
        }
    }
}

/// Whether the two instructions after a lookup allow a variable that is missing.
fn allows_missing(next: Option<&Instruction<'_>>, second: Option<&Instruction<'_>>) -> bool {
    use Instruction as I;
    let defaults = |i: Option<&I>| matches!(i, Some(I::ApplyFilter("default" | "d", ..)));
    match next {
        Some(I::JumpIfFalse(_) | I::JumpIfFalseOrPop(_) | I::JumpIfTrueOrPop(_) | I::Not) => true,
        Some(I::PerformTest("defined" | "undefined", ..)) => true,
        Some(I::LoadConst(_)) => defaults(second),
        _ => defaults(next),
    }
}

/// The same instructions, with measurements inserted.
fn bounded<'a>(old: &Instructions<'a>) -> Result<Instructions<'a>, Error> {
    let groups: Vec<Vec<Instruction<'a>>> = instructions(old).map(measured).collect();
    // Where each group begins. The last entry is the end, which is a jump target too.
    let mut starts = vec![0u32];
    for group in &groups {
        starts.push(starts[starts.len() - 1] + group.len() as u32);
    }
    let mut new = Instructions::new(old.name(), old.source());
    for (index, group) in groups.into_iter().enumerate() {
        let index = index as u32;
        for mut instruction in group {
            if let Some(target) = target(&mut instruction) {
                let moved = starts.get(*target as usize).copied();
                *target = moved.ok_or_else(|| Error::new(ErrorKind::BadSerialization, "a jump out of the template"))?;
            }
            match (old.get_span(index), old.get_line(index)) {
                (Some(span), _) => new.add_with_span(instruction, span),
                (None, Some(line)) => new.add_with_line(instruction, line as u16),
                (None, None) => new.add(instruction),
            };
        }
    }
    Ok(new)
}

/// The instructions that replace one instruction.
fn measured<'a>(instruction: &Instruction<'a>) -> Vec<Instruction<'a>> {
    use Instruction as I;
    let this = instruction.clone();
    let measure = || I::ApplyFilter(GUARD, Some(1), NOT_CACHED);
    // The function returns both operands as a list, and unpacking puts them back on the stack.
    let two = |function| [I::CallFunction(function, Some(2)), I::UnpackList(2)];
    let joined = |function| {
        let [call, unpack] = two(function);
        vec![call, unpack, this.clone(), measure()]
    };
    match instruction {
        I::EmitRaw(text) => vec![I::LoadConst(Value::from_safe_string((*text).to_string())), I::Emit],
        I::Add => joined(GUARD_TWO),
        I::StringConcat => joined(GUARD_TEXTS),
        I::Mul => joined(GUARD_PRODUCT),
        I::Eq | I::Ne | I::Gt | I::Gte | I::Lt | I::Lte | I::In | I::CompareAndPreserve(_) | I::SetAttr(_) => {
            two(GUARD_TWO).into_iter().chain([this]).collect()
        }
        I::GetItem => two(GUARD_ITEM).into_iter().chain([this]).collect(),
        I::Slice => vec![I::CallFunction(SLICE, Some(4))],
        I::BuildList(_) | I::BuildTuple(_) | I::BuildMap(_) => vec![this, measure()],
        _ => vec![this],
    }
}

/// The jump target of an instruction.
fn target<'i>(instruction: &'i mut Instruction<'_>) -> Option<&'i mut u32> {
    use Instruction as I;
    match instruction {
        I::Iterate(to) | I::Jump(to) | I::JumpIfFalse(to) | I::JumpIfFalseOrPop(to) | I::JumpIfTrueOrPop(to) => Some(to),
        I::BuildMacro(_, to, _) => Some(to),
        _ => None,
    }
}
