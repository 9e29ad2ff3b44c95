//! The filters of a hub's sinks, each once, under numbers that stay theirs while the set changes.

use std::sync::Arc;

use super::expression::Filter;

/// Filters, each with a number of its own. Clones share them.
///
/// A set is never changed: [`renewed`](Filters::renewed) makes the next one, in which a filter that was
/// there before has the number that it had. So what a batch was marked with is known, whichever set is
/// the present one.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    numbered: Arc<[(u32, Filter)]>,
    next: u32,
}

impl Filters {
    /// The set that holds these filters; one whose text was in this set keeps its number. Of filters with
    /// the same text, the first is taken.
    pub fn renewed(&self, filters: impl IntoIterator<Item = Filter>) -> Filters {
        let mut next = self.next;
        let mut numbered: Vec<(u32, Filter)> = Vec::new();
        for filter in filters {
            if numbered.iter().any(|(_, known)| known.text() == filter.text()) {
                continue;
            }
            let known = self.numbered.iter().find(|(_, known)| known.text() == filter.text());
            numbered.push(match known {
                Some((number, known)) => (*number, known.clone().of(filter.whose())),
                None => {
                    next = next.wrapping_add(1);
                    (next, filter)
                }
            });
        }
        Filters { numbered: numbered.into(), next }
    }

    /// The number of the filter of this text.
    pub fn number(&self, text: &str) -> Option<u32> {
        self.numbered.iter().find(|(_, filter)| filter.text() == text).map(|(number, _)| *number)
    }

    /// The filters, in the order of the marks.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Filter> {
        self.numbered.iter().map(|(_, filter)| filter)
    }

    /// Their numbers, in the same order.
    pub fn numbers(&self) -> Arc<[u32]> {
        self.numbered.iter().map(|(number, _)| *number).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbered.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbered.is_empty()
    }
}

impl FromIterator<Filter> for Filters {
    fn from_iter<I: IntoIterator<Item = Filter>>(filters: I) -> Self {
        Filters::default().renewed(filters)
    }
}
