use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever is put in comes out in order, and there is never more than the bound.
    #[test]
    fn a_bounded_queue(steps in proptest::collection::vec((any::<bool>(), 0usize..40), 0..60)) {
        let mut buffer = Buffer::new(64);
        let mut model: VecDeque<u8> = VecDeque::new();
        let mut next = 0u8;
        for (put, length) in steps {
            if put {
                let bytes: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
                let fits = model.len() + length <= 64;
                prop_assert_eq!(buffer.put(&bytes), fits);
                if fits {
                    model.extend(bytes);
                }
            } else {
                buffer.consume(length);
                model.drain(..length.min(model.len()));
            }
            prop_assert!(buffer.bytes.len() <= 64);
            prop_assert_eq!(buffer.len(), model.len());
            prop_assert_eq!(buffer.is_empty(), model.is_empty());
            prop_assert!(buffer.filled().iter().eq(&model));
        }
    }
}

#[test]
fn room_ends_at_the_bound() {
    let mut buffer = Buffer::new(10);
    assert_eq!(buffer.room(4).len(), 4);
    buffer.grow(4);
    assert_eq!(buffer.room(100).len(), 6);
    buffer.grow(100);
    assert_eq!(buffer.len(), 10);
    buffer.consume(7);
    assert_eq!(buffer.room(7).len(), 7);
}
