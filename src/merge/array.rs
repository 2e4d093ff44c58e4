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

/// The OID of the array type whose elements are of this one of PostgreSQL's own types (pg_type.dat);
/// `None` for any other, which only the server can tell.
pub fn array_of(element: u32) -> Option<u32> {
    let known: &[(u32, u32)] = &[
        (16, 1000),
        (17, 1001),
        (18, 1002),
        (19, 1003),
        (20, 1016),
        (21, 1005),
        (23, 1007),
        (25, 1009),
        (26, 1028),
        (114, 199),
        (142, 143),
        (600, 1017),
        (650, 651),
        (700, 1021),
        (701, 1022),
        (774, 775),
        (790, 791),
        (829, 1040),
        (869, 1041),
        (1042, 1014),
        (1043, 1015),
        (1082, 1182),
        (1083, 1183),
        (1114, 1115),
        (1184, 1185),
        (1186, 1187),
        (1266, 1270),
        (1560, 1561),
        (1562, 1563),
        (1700, 1231),
        (2950, 2951),
        (3802, 3807),
        (3904, 3905),
        (3906, 3907),
        (3908, 3909),
        (3910, 3911),
        (3912, 3913),
        (3926, 3927),
        (5069, 271),
    ];
    known.iter().find(|(of, _)| *of == element).map(|(_, array)| *array)
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
