//! Arithmetic in GF(2⁸) with the polynomial x⁸+x⁴+x³+x²+1, and the matrices over it.

/// What is left of the polynomial when its x⁸ overflows a byte.
const POLYNOMIAL: u8 = 0x1d;

/// Powers of the generator 2; twice over, so that a sum of two logarithms needs no reduction.
const EXP: [u8; 510] = exponentials();
/// Logarithms to the base 2; that of 0 means nothing.
const LOG: [u8; 256] = logarithms();

const fn exponentials() -> [u8; 510] {
    let mut table = [0; 510];
    let mut power = 1;
    let mut at = 0;
    while at < table.len() {
        table[at] = power;
        power = double(power);
        at += 1;
    }
    table
}

const fn logarithms() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 255 {
        table[EXP[at] as usize] = at as u8;
        at += 1;
    }
    table
}

const fn double(value: u8) -> u8 {
    (value << 1) ^ (POLYNOMIAL & (value >> 7).wrapping_neg())
}

fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { EXP[usize::from(LOG[usize::from(a)]) + usize::from(LOG[usize::from(b)])] }
}

/// The quotient by anything but 0.
fn divide(a: u8, b: u8) -> u8 {
    if a == 0 { 0 } else { EXP[usize::from(LOG[usize::from(a)]) + 255 - usize::from(LOG[usize::from(b)])] }
}

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

impl Matrix {
    /// The parity rows of the systematic code: a data shard is the value of a polynomial at the points 0, 1, …; a parity
    /// shard is its value at the points after those. So a cell is a Lagrange base polynomial's value there.
    ///
    /// Equal to the lower part of V·(top of V)⁻¹ with V the Vandermonde matrix. Both counts together are at most 256.
    pub(super) fn parity(data: usize, parity: usize) -> Self {
        let points = || (0..data).map(|point| point as u8);
        let base = |column: u8, at: u8| {
            points()
                .filter(|point| *point != column)
                .fold(1, |product, point| multiply(product, divide(at ^ point, column ^ point)))
        };
        let cells = (data..data + parity).flat_map(|at| points().map(move |column| base(column, at as u8))).collect();
        Self { columns: data, cells }
    }

    pub(super) fn at(&self, row: usize, column: usize) -> u8 {
        self.cells[row * self.columns + column]
    }

    /// The cells of these rows and columns.
    pub(super) fn part(&self, rows: &[usize], columns: &[usize]) -> Self {
        let cells = rows.iter().flat_map(|row| columns.iter().map(|column| self.at(*row, *column))).collect();
        Self { columns: columns.len(), cells }
    }

    /// The inverse of a square matrix, by elimination. None if there is none.
    pub(super) fn inverse(&self) -> Option<Self> {
        let size = self.columns;
        let mut left = self.clone();
        let mut right = Self { columns: size, cells: vec![0; size * size] };
        (0..size).for_each(|at| right.cells[at * size + at] = 1);
        for pivot in 0..size {
            let row = (pivot..size).find(|row| left.at(*row, pivot) != 0)?;
            let scale = divide(1, left.at(row, pivot));
            for matrix in [&mut left, &mut right] {
                matrix.swap(row, pivot);
                matrix.scale(pivot, scale);
            }
            for row in (0..size).filter(|row| *row != pivot) {
                let factor = left.at(row, pivot);
                left.add(pivot, factor, row);
                right.add(pivot, factor, row);
            }
        }
        Some(right)
    }

    fn swap(&mut self, a: usize, b: usize) {
        (0..self.columns).for_each(|column| self.cells.swap(a * self.columns + column, b * self.columns + column));
    }

    fn scale(&mut self, row: usize, factor: u8) {
        let cells = &mut self.cells[row * self.columns..][..self.columns];
        cells.iter_mut().for_each(|cell| *cell = multiply(*cell, factor));
    }

    /// Adds a multiple of one row to another.
    fn add(&mut self, from: usize, factor: u8, to: usize) {
        for column in 0..self.columns {
            self.cells[to * self.columns + column] ^= multiply(factor, self.at(from, column));
        }
    }
}

/// A shard times 1, 2, 4, … 128, so that any multiple of it is a sum of some of these.
///
/// Doubling and adding work on whole registers of bytes, where a table would take one byte at a time.
pub(super) struct Multiples {
    planes: [Vec<u8>; 8],
}

impl Multiples {
    pub(super) fn new() -> Self {
        Self { planes: Default::default() }
    }

    /// Takes another shard.
    pub(super) fn of(&mut self, shard: &[u8]) {
        self.planes[0].clear();
        self.planes[0].extend_from_slice(shard);
        for power in 1..self.planes.len() {
            let (known, next) = self.planes.split_at_mut(power);
            next[0].clear();
            next[0].extend(known[power - 1].iter().map(|byte| double(*byte)));
        }
    }

    /// Adds `factor` times the shard to `sum`, whose further bytes stay.
    pub(super) fn add(&self, factor: u8, sum: &mut [u8]) {
        for (power, plane) in self.planes.iter().enumerate() {
            if factor >> power & 1 == 1 {
                sum.iter_mut().zip(plane).for_each(|(sum, byte)| *sum ^= byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Multiples, divide, multiply};

    /// Multiplication as polynomials over GF(2), bit by bit.
    fn slow_product(a: u8, b: u8) -> u8 {
        let mut product: u16 = (0..8).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ (u16::from(a) << bit));
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11d << (bit - 8);
            }
        }
        product as u8
    }

    #[test]
    fn products_quotients_and_multiples_agree_with_the_definition() {
        let all: Vec<u8> = (0..=255).collect();
        let mut multiples = Multiples::new();
        multiples.of(&all);
        for a in 0..=255 {
            let mut sums = vec![0; 256];
            multiples.add(a, &mut sums);
            for b in 0..=255u8 {
                let product = slow_product(a, b);
                assert_eq!((multiply(a, b), sums[usize::from(b)]), (product, product), "{a}·{b}");
                assert!(b == 0 || divide(product, b) == a, "{product}/{b}");
            }
        }
    }

    /// Source: Kopia format, "ECC".
    #[test]
    fn the_parity_rows_of_six_and_two_are_kopias() {
        assert_eq!(Matrix::parity(6, 2).cells, [7, 6, 5, 4, 3, 2, 6, 7, 4, 5, 2, 3]);
    }
}
