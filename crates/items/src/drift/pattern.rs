//! Patterns of kinds, names and paths, as users write them in inputs.

use super::changes::Step;
use crate::api::item::GroupKind;

/// Kinds, in which `*` stands for any letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindPattern {
    kind: String,
    /// `None` if the pattern is `*` alone: any kind of any group.
    group: Option<String>,
}

impl KindPattern {
    /// Reads `Kind` or `Kind.group`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self { kind: "*".to_owned(), group: None });
        }
        // What a `*` stands for can be any letter.
        match text.replace('*', "x").parse::<GroupKind>() {
            Ok(_) => {
                let (kind, group) = text.split_once('.').unwrap_or((text, ""));
                Ok(Self { kind: kind.to_owned(), group: Some(group.to_owned()) })
            }
            Err(_) => Err(format!(
                "{:?} is no pattern of kinds: write `Kind` or `Kind.group`, such as `Secret`, `Deployment.apps` or `*.example.com`",
                text.chars().take(100).collect::<String>()
            )),
        }
    }

    /// Reads the field `kinds` of a rule. The error begins with the place.
    pub(super) fn read_all(texts: &[String]) -> Result<Vec<Self>, String> {
        let read = |(number, text): (usize, &String)| {
            Self::parse(text).map_err(|problem| format!(".kinds[{number}]: {problem}"))
        };
        texts.iter().enumerate().map(read).collect()
    }

    /// Whether a kind fits.
    #[must_use]
    pub fn takes(&self, kind: &GroupKind) -> bool {
        glob(&self.kind, &kind.kind) && self.group.as_ref().is_none_or(|group| glob(group, &kind.group))
    }

    /// Whether a kind fits one of the patterns, or there are none.
    #[must_use]
    pub(super) fn any_takes(patterns: &[Self], kind: &GroupKind) -> bool {
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.takes(kind))
    }
}

/// Whether a text fits a pattern, in which `*` stands for any letters. Takes time in the product of
/// both lengths at most.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = rest.get(at + middle.len()..).unwrap_or_default();
        }
    }
    last.map_or(rest.is_empty(), |last: &str| rest.ends_with(last))
}

/// A JSON pointer in which a segment `*` stands for any field or element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    Is(String),
}

impl Pointer {
    /// Reads a pointer as RFC 6901 has it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = |why: &str| {
            let shown: String = text.chars().take(100).collect();
            format!(
                "{shown:?} is no JSON pointer: {why}: write it as `/spec/replicas`, with `~1` for `/` and `~0` for `~` in a name, and `*` for any field or element"
            )
        };
        let Some(path) = text.strip_prefix('/') else { return Err(invalid("it does not start with `/`")) };
        let mut segments = Vec::new();
        for segment in path.split('/') {
            if segment.is_empty() {
                return Err(invalid("a segment is empty"));
            }
            let tildes = segment.split('~').skip(1);
            if tildes.into_iter().any(|rest| !rest.starts_with(['0', '1'])) {
                return Err(invalid("a `~` is not `~0` or `~1`"));
            }
            let name = segment.replace("~1", "/").replace("~0", "~");
            segments.push(if segment == "*" { Segment::Any } else { Segment::Is(name) });
        }
        Ok(Self(segments))
    }

    /// Reads the field `paths` of a rule. The error begins with the place.
    pub(super) fn read_all(texts: &[String]) -> Result<Vec<Self>, String> {
        let read = |(number, text): (usize, &String)| {
            Self::parse(text).map_err(|problem| format!(".paths[{number}]: {problem}"))
        };
        texts.iter().enumerate().map(read).collect()
    }

    /// Whether the pointer is at this place, or at one that contains it.
    pub(super) fn covers(&self, steps: &[Step]) -> bool {
        self.0.len() <= steps.len() && self.fits(steps)
    }

    /// Whether the pointer is at a place within this one.
    pub(super) fn goes_into(&self, steps: &[Step]) -> bool {
        self.0.len() > steps.len() && self.fits(steps)
    }

    fn fits(&self, steps: &[Step]) -> bool {
        self.0.iter().zip(steps).all(|(segment, step)| match segment {
            Segment::Any => true,
            Segment::Is(name) => step.is(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters_and_nothing_else_does() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*bc*c", "abc", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "a", false),
            ("a.c", "abc", false),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_kind_without_a_group_is_of_the_core_group_and_a_star_alone_is_any() {
        let takes = |pattern: &str, group: &str, kind: &str| {
            KindPattern::parse(pattern).expect(pattern).takes(&GroupKind::new(group, kind))
        };
        assert!(takes("Secret", "", "Secret") && !takes("Secret", "example.com", "Secret"));
        assert!(takes("*", "", "Secret") && takes("*", "apps", "Deployment"));
        assert!(takes("*.apps", "apps", "Deployment") && !takes("*.apps", "", "Secret"));
        assert!(
            takes("Cert*.*", "cert-manager.io", "Certificate") && !takes("Cert*", "cert-manager.io", "Certificate")
        );
        for wrong in ["", "a b", "Deployment.", ".apps", "Deployment.Apps!"] {
            assert!(KindPattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused_with_the_reason() {
        for (wrong, why) in [
            ("spec/a", "start with"),
            ("", "start with"),
            ("/a//b", "empty"),
            ("/", "empty"),
            ("/a~2", "`~`"),
            ("/a~", "`~`"),
        ] {
            let problem = Pointer::parse(wrong).expect_err(wrong);
            assert!(problem.contains(why), "{wrong}: {problem}");
        }
        let steps = [Step::Field("metadata".into()), Step::Field("a/b~c".into())];
        assert!(Pointer::parse("/metadata/a~1b~0c").expect("a pointer").covers(&steps));
        assert!(Pointer::parse("/*/a~1b~0c").expect("a pointer").covers(&steps));
        assert!(Pointer::parse("/metadata").expect("a pointer").covers(&steps));
        let deeper = Pointer::parse("/metadata/*/x").expect("a pointer");
        assert!(!deeper.covers(&steps) && deeper.goes_into(&steps) && !deeper.goes_into(&[Step::Field("spec".into())]));
    }
}
