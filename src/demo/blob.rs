//! Finds changes in a picture: compares it with the empty view and joins the changed cells into blobs.
//!
//! Cells of several pixels are compared instead of single pixels, which removes noise. The median of all
//! differences is taken as a change in lighting, so a uniformly brighter view does not count as a change. No
//! state is kept between pictures.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "picture sizes and ratios are small numbers, and rounding them does no harm"
)]

use image::GrayImage;

/// Side length of a cell in pixels. Single noisy pixels do not change a cell.
pub(super) const CELL: u32 = 4;
/// A pixel has changed if, corrected for the lighting, it differs from the background by more than this.
const THRESHOLD: i32 = 24;
/// A cell has changed if this many of its pixels have changed.
const CELL_PIXELS: u32 = 6;
/// Blobs with fewer cells are ignored.
const MIN_BLOB_CELLS: usize = 8;
/// Blobs have the same size if their width and height differ by at most this many cells.
const STEADY_CELLS: u32 = 2;

/// The changed cells of a picture.
pub(super) struct Grid {
    columns: u32,
    cells: Vec<bool>,
}

impl Grid {
    /// Compares a picture with the background (one number per pixel, row by row), corrected for the lighting.
    pub(super) fn changed(background: &[f32], picture: &GrayImage) -> Self {
        let pixels = picture.as_raw().iter().zip(background);
        let difference: Vec<i32> = pixels.map(|(pixel, known)| i32::from(*pixel) - *known as i32).collect();
        let light = median(&difference);
        let columns = picture.width().div_ceil(CELL);
        let rows = picture.height().div_ceil(CELL);
        let mut counts = vec![0; (columns * rows) as usize];
        for (index, difference) in (0..).zip(difference) {
            if (difference - light).abs() > THRESHOLD {
                let (x, y) = (index % picture.width(), index / picture.width());
                counts[(y / CELL * columns + x / CELL) as usize] += 1;
            }
        }
        Self { columns, cells: counts.into_iter().map(|count| count >= CELL_PIXELS).collect() }
    }

    /// Returns whether the cell has changed.
    pub(super) fn at(&self, column: u32, row: u32) -> bool {
        self.cells[(row * self.columns + column) as usize]
    }

    /// Returns how much of the picture has changed, in percent.
    pub(super) fn percent(&self) -> usize {
        self.cells.iter().filter(|changed| **changed).count() * 100 / self.cells.len().max(1)
    }

    fn rows(&self) -> u32 {
        self.cells.len() as u32 / self.columns.max(1)
    }

    /// Returns the largest group of connected changed cells. Cells with a gap of one cell between them are
    /// connected.
    pub(super) fn largest_blob(&self) -> Option<Blob> {
        let mut remaining = self.cells.clone();
        let mut largest: Option<Blob> = None;
        for start in 0..remaining.len() {
            if !std::mem::take(&mut remaining[start]) {
                continue;
            }
            let blob = self.blob_from(start, &mut remaining);
            if largest.is_none_or(|other| blob.cells > other.cells) {
                largest = Some(blob);
            }
        }
        largest.filter(|blob| blob.cells >= MIN_BLOB_CELLS)
    }

    /// Collects all cells connected with `start`, and removes them from `remaining`.
    fn blob_from(&self, start: usize, remaining: &mut [bool]) -> Blob {
        const REACH: u32 = 2;
        let position = |index: usize| (index as u32 % self.columns, index as u32 / self.columns);
        let (mut left, mut top) = position(start);
        let (mut right, mut bottom) = (left, top);
        let (mut cells, mut open) = (0, vec![start]);
        while let Some(index) = open.pop() {
            let (x, y) = position(index);
            cells += 1;
            (left, right) = (left.min(x), right.max(x));
            (top, bottom) = (top.min(y), bottom.max(y));
            for row in y.saturating_sub(REACH)..(y + REACH + 1).min(self.rows()) {
                for column in x.saturating_sub(REACH)..(x + REACH + 1).min(self.columns) {
                    let near = (row * self.columns + column) as usize;
                    if std::mem::take(&mut remaining[near]) {
                        open.push(near);
                    }
                }
            }
        }
        let complete = left > 0 && right + 1 < self.columns && bottom + 1 < self.rows();
        Blob { left, top, width: right - left + 1, height: bottom - top + 1, cells, complete }
    }
}

/// A group of changed cells. All numbers are in cells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blob {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) cells: usize,
    /// Whether the whole blob is in the picture: it does not touch the sides or the lower edge.
    pub(super) complete: bool,
}

impl Blob {
    /// Returns whether both blobs have nearly the same width and height.
    pub(super) fn has_same_size_as(self, other: Self) -> bool {
        self.width.abs_diff(other.width) <= STEADY_CELLS && self.height.abs_diff(other.height) <= STEADY_CELLS
    }
}

/// Returns the median difference. While most of the view is empty, this is the change in lighting.
fn median(differences: &[i32]) -> i32 {
    let mut counts = [0_usize; 511];
    for difference in differences {
        counts[(difference + 255).clamp(0, 510) as usize] += 1;
    }
    let mut seen = 0;
    let middle = counts.iter().position(|count| {
        seen += count;
        seen * 2 > differences.len()
    });
    middle.map_or(0, |index| index as i32 - 255)
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    fn largest(changed: impl Fn(u32, u32) -> bool) -> Option<Blob> {
        let picture = GrayImage::from_fn(80, 60, |x, y| Luma([if changed(x, y) { 200 } else { 100 }]));
        Grid::changed(&vec![100.0; 80 * 60], &picture).largest_blob()
    }

    #[test]
    fn single_pixels_are_not_a_blob() {
        assert!(largest(|x, y| x % 4 == 0 && y % 4 == 0).is_none());
    }

    #[test]
    fn two_parts_are_one_blob_if_the_gap_is_small_and_two_if_it_is_large() {
        let near = largest(|x, y| (20..32).contains(&y) && matches!(x, 8..=19 | 24..=35)).unwrap();
        assert_eq!((near.left, near.top, near.width, near.height, near.cells), (2, 5, 7, 3, 18));
        let far = largest(|x, y| (20..32).contains(&y) && matches!(x, 8..=19 | 32..=47)).unwrap();
        assert_eq!((far.left, far.top, far.width, far.height, far.cells), (8, 5, 4, 3, 12));
    }

    #[test]
    fn a_blob_at_the_edge_is_not_complete() {
        assert!(largest(|x, y| (8..28).contains(&x) && (20..32).contains(&y)).unwrap().complete);
        assert!(!largest(|x, y| x < 20 && (20..32).contains(&y)).unwrap().complete);
        assert!(!largest(|x, y| x >= 60 && (20..32).contains(&y)).unwrap().complete);
        assert!(!largest(|x, y| (8..28).contains(&x) && y >= 44).unwrap().complete);
    }

    #[test]
    fn a_change_in_lighting_alone_does_not_count_as_a_change() {
        let picture = GrayImage::from_pixel(80, 60, Luma([190]));
        let grid = Grid::changed(&vec![100.0; 80 * 60], &picture);
        assert_eq!((grid.percent(), grid.largest_blob().is_none()), (0, true));
    }
}
