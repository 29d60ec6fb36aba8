//! A list that mostly has one element, which then needs no memory of its own.

/// Elements in no order.
#[derive(Debug)]
pub(super) enum List<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T: Copy> List<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(element) => std::slice::from_ref(element),
            Self::Many(elements) => elements,
        }
    }

    /// The element at a position.
    pub(super) fn get_mut(&mut self, position: u32) -> Option<&mut T> {
        let position = usize::try_from(position).ok()?;
        match self {
            Self::One(element) => (position == 0).then_some(element),
            Self::Many(elements) => elements.get_mut(position),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Adds an element and says at which position.
    pub(super) fn push(&mut self, element: T) -> u32 {
        let position = self.as_slice().len();
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, element]),
            Self::Many(elements) if elements.is_empty() => *self = Self::One(element),
            Self::Many(elements) => elements.push(element),
        }
        // A list of four thousand million elements does not fit into memory.
        u32::try_from(position).unwrap_or(u32::MAX)
    }

    /// Takes away the element at a position, if there is one, and says what moved there instead.
    pub(super) fn swap_remove(&mut self, position: u32) -> Option<T> {
        let position = usize::try_from(position).ok()?;
        if position >= self.as_slice().len() {
            return None;
        }
        match self {
            Self::One(_) => *self = Self::default(),
            Self::Many(elements) => {
                elements.swap_remove(position);
            }
        }
        self.as_slice().get(position).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_and_go() {
        let mut list = List::default();
        assert!(list.is_empty());
        assert_eq!((list.push('a'), list.push('b'), list.push('c')), (0, 1, 2));
        assert_eq!(list.swap_remove(0), Some('c'));
        assert_eq!(list.as_slice(), ['c', 'b']);
        assert_eq!((list.swap_remove(1), list.swap_remove(5)), (None, None));
        assert_eq!(list.swap_remove(0), None);
        assert_eq!((list.push('d'), list.as_slice()), (0, ['d'].as_slice()));
        assert!(matches!(list, List::One('d')));
        assert_eq!((list.swap_remove(0), list.is_empty()), (None, true));
    }
}
