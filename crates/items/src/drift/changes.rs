//! The places at which two objects differ. Lists are compared as in a preview ([`crate::diff`]):
//! elements by name where they have one.

use super::ignore::OfItem;
use crate::diff::{Place, names};
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// A step into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field of a map.
    Field(String),
    /// An element of a list.
    Element {
        /// Its name, or its place in the list if it has none.
        name: String,
        /// Its place in the current list, if it is there; else in that of the baseline.
        at: usize,
    },
}

impl Step {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Field(name) | Self::Element { name, .. } => name,
        }
    }

    /// Whether a segment of a JSON pointer means this step. An element has its place and its name.
    pub(super) fn is(&self, segment: &str) -> bool {
        match self {
            Self::Field(name) => name == segment,
            Self::Element { name, at } => name == segment || at.to_string() == segment,
        }
    }
}

/// A place at which two objects differ.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    pub(super) place: Place,
    pub(super) steps: Vec<Step>,
    pub(super) before: Option<Cow<'a, Value>>,
    pub(super) after: Option<Cow<'a, Value>>,
}

/// Finds the places that count.
pub struct Changes<'a, 'i> {
    ignore: &'i OfItem<'i>,
    steps: Vec<Step>,
    /// What counts, in the order of the fields.
    pub found: Vec<Change<'a>>,
    /// Number of places that do not count.
    pub ignored: usize,
}

impl<'a, 'i> Changes<'a, 'i> {
    /// Compares two objects in the form in which they are compared.
    #[must_use]
    pub(super) fn of(place: &Place, before: &'a Value, after: &'a Value, ignore: &'i OfItem<'i>) -> Self {
        let mut changes = Self { ignore, steps: Vec::new(), found: Vec::new(), ignored: 0 };
        changes.values(place, Some(before), Some(after));
        changes
    }

    fn values(&mut self, place: &Place, before: Option<&'a Value>, after: Option<&'a Value>) {
        if before == after {
            return;
        }
        if self.ignore.takes(&self.steps, before.is_none()) {
            self.ignored += 1;
            return;
        }
        match (before, after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => self.maps(place, Some(before), Some(after)),
            (Some(Value::Array(_)), Some(Value::Array(_))) => self.lists(place, before, after),
            // What is in a missing map counts one by one where somebody may ask for less than all.
            (None, Some(Value::Object(after))) if self.is_opened(place, after) => self.maps(place, None, Some(after)),
            (Some(Value::Object(before)), None) if self.is_opened(place, before) => {
                self.maps(place, Some(before), None);
            }
            (None, Some(Value::Array(_))) | (Some(Value::Array(_)), None) if self.ignore.goes_into(&self.steps) => {
                self.lists(place, before, after);
            }
            _ => self.put(place, before.map(Cow::Borrowed), after.map(Cow::Borrowed)),
        }
    }

    fn is_opened(&self, place: &Place, map: &Map<String, Value>) -> bool {
        let is_label = matches!(place.field.as_str(), "labels" | "annotations") && place.path.contains("metadata");
        !map.is_empty() && (place.hidden || is_label || self.ignore.goes_into(&self.steps))
    }

    fn maps(&mut self, place: &Place, before: Option<&'a Map<String, Value>>, after: Option<&'a Map<String, Value>>) {
        let keys: BTreeSet<&String> = before.into_iter().chain(after).flat_map(Map::keys).collect();
        for key in keys {
            self.steps.push(Step::Field(key.clone()));
            let value = |map: Option<&'a Map<String, Value>>| map.and_then(|map| map.get(key));
            self.values(&place.field(key), value(before), value(after));
            self.steps.pop();
        }
    }

    fn lists(&mut self, place: &Place, whole_before: Option<&'a Value>, whole_after: Option<&'a Value>) {
        let elements = |list: Option<&'a Value>| list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (before, after) = (elements(whole_before), elements(whole_after));
        let is_plain = before.iter().chain(after).all(|element| !element.is_object() && !element.is_array());
        if place.hidden || is_plain {
            self.put(place, whole_before.map(Cow::Borrowed), whole_after.map(Cow::Borrowed));
        } else if let Some((was, is)) = names(&place.field, before, after) {
            let places: BTreeMap<&String, usize> = is.iter().enumerate().map(|(at, name)| (name, at)).collect();
            for (at, (name, element)) in was.iter().zip(before).enumerate() {
                let now = places.get(name).copied();
                self.element(place, name, now.unwrap_or(at), Some(element), now.map(|now| &after[now]));
            }
            let known: BTreeSet<&String> = was.iter().collect();
            for (at, (name, element)) in is.iter().zip(after).enumerate().filter(|(_, (name, _))| !known.contains(name))
            {
                self.element(place, name, at, None, Some(element));
            }
            let common = |names: &[String], other: &dyn Fn(&String) -> bool| -> Vec<String> {
                names.iter().filter(|name| other(name)).cloned().collect()
            };
            let was = common(&was, &|name| places.contains_key(name));
            let is = common(&is, &|name| known.contains(name));
            if was != is {
                // The order alone.
                self.put(place, Some(Cow::Owned(Value::from(was))), Some(Cow::Owned(Value::from(is))));
            }
        } else {
            for at in 0..before.len().max(after.len()) {
                self.element(place, &at.to_string(), at, before.get(at), after.get(at));
            }
        }
    }

    fn element(&mut self, place: &Place, name: &str, at: usize, before: Option<&'a Value>, after: Option<&'a Value>) {
        self.steps.push(Step::Element { name: name.to_owned(), at });
        self.values(&place.element(name), before, after);
        self.steps.pop();
    }

    fn put(&mut self, place: &Place, before: Option<Cow<'a, Value>>, after: Option<Cow<'a, Value>>) {
        self.found.push(Change { place: place.clone(), steps: self.steps.clone(), before, after });
    }
}
