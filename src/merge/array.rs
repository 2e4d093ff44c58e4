//! A column's values as one array parameter in binary form (arrayfuncs.c, `array_send`), so that
//! `unnest($1)` gives them back.

/// The values so far.
#[derive(Clone, Debug, Default)]
pub struct Column {
    values: Vec<u8>,
    count: u32,
    has_null: bool,
}

impl Column {
    /// One more value in its binary form; `None` is NULL.
    pub fn push(&mut self, value: Option<&[u8]>) {
        self.count += 1;
        match value {
            None => {
                self.has_null = true;
                self.values.extend_from_slice(&(-1_i32).to_be_bytes());
            }
            Some(value) => {
                // It came behind a length of 4 bytes.
                let len = i32::try_from(value.len()).unwrap_or(i32::MAX);
                self.values.extend_from_slice(&len.to_be_bytes());
                self.values.extend_from_slice(value);
            }
        }
    }

    /// What it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }

    /// The array, of elements of this type.
    pub fn array(&self, element: u32) -> Vec<u8> {
        let dimensions = u32::from(self.count > 0);
        let mut array = Vec::with_capacity(self.values.len() + 20);
        array.extend_from_slice(&dimensions.to_be_bytes());
        array.extend_from_slice(&u32::from(self.has_null).to_be_bytes());
        array.extend_from_slice(&element.to_be_bytes());
        if dimensions > 0 {
            array.extend_from_slice(&self.count.to_be_bytes());
            array.extend_from_slice(&1u32.to_be_bytes());
        }
        array.extend_from_slice(&self.values);
        array
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_as_array_send_makes_them() {
        let mut column = Column::default();
        assert_eq!(column.array(23), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23]);
        column.push(Some(&7i32.to_be_bytes()));
        column.push(None);
        let words: [i32; 8] = [1, 1, 23, 2, 1, 4, 7, -1];
        assert_eq!(column.array(23), words.map(i32::to_be_bytes).concat());
    }
}
