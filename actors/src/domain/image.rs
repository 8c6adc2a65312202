//! Checks that bytes are a picture, by their content.
//!
//! The picture is not decoded. It must have the headers of a JPEG, PNG or WebP file with nonzero dimensions,
//! and its end must be present. This is enough to reject other files and pictures that were truncated in
//! transit.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::domain::camera::ImageType;

/// The maximum picture size.
pub const MAX_THUMBNAIL_BYTES: usize = 2 * 1024 * 1024;

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its format.
    pub format: ImageType,
    /// Its bytes.
    pub image: Bytes,
}

/// The width of a small rendition of a picture, in pixels: one of [`RenditionWidth::ALL`], so that few renditions of a
/// picture are made and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenditionWidth(u32);

impl RenditionWidth {
    /// The widths that exist: for a list, for a card or a phone, and for a large view.
    pub const ALL: [u32; 3] = [192, 384, 768];

    /// Returns this width, or `None` if it is not one of [`RenditionWidth::ALL`].
    pub fn new(pixels: u32) -> Option<Self> {
        Self::ALL.contains(&pixels).then_some(Self(pixels))
    }

    /// Returns the width in pixels.
    pub fn pixels(self) -> u32 {
        self.0
    }
}

/// Identifies the content of an event's picture: a picture that replaces it has another version. Its text is 16
/// hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct PictureVersion(pub u64);

impl fmt::Display for PictureVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<PictureVersion> for String {
    fn from(version: PictureVersion) -> Self {
        version.to_string()
    }
}

/// A picture, or a small rendition of it, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPicture {
    /// The picture or its rendition.
    pub picture: Picture,
    /// The version of the picture that was submitted.
    pub version: PictureVersion,
}

/// Why bytes are not accepted as a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The picture is larger than [`MAX_THUMBNAIL_BYTES`].
    #[error("{bytes} bytes, must be at most {MAX_THUMBNAIL_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The content is not one of the three formats, or it is incomplete.
    #[error("must be a complete JPEG, PNG or WebP picture")]
    NotAPicture,
}

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Returns the format of a picture, or an error if it is incomplete or larger than [`MAX_THUMBNAIL_BYTES`].
pub fn check(image: &[u8]) -> Result<ImageType, ImageError> {
    if image.len() > MAX_THUMBNAIL_BYTES {
        return Err(ImageError::TooLarge { bytes: image.len() });
    }
    let format = detect_format(image).ok_or(ImageError::NotAPicture)?;
    let accepted = match format {
        ImageType::Jpeg => jpeg_is_complete(image),
        ImageType::Png => png_is_complete(image).map(|complete| complete && has_size(image)),
        ImageType::WebP => webp_is_complete(image).map(|complete| complete && has_size(image)),
    };
    if accepted == Some(true) { Ok(format) } else { Err(ImageError::NotAPicture) }
}

/// Returns whether neither dimension is zero.
fn has_size(image: &[u8]) -> bool {
    imagesize::blob_size(image).is_ok_and(|size| size.width > 0 && size.height > 0)
}

/// Detects the format from the first bytes.
pub fn detect_format(image: &[u8]) -> Option<ImageType> {
    match imagesize::image_type(image).ok()? {
        imagesize::ImageType::Jpeg => Some(ImageType::Jpeg),
        imagesize::ImageType::Png => Some(ImageType::Png),
        imagesize::ImageType::Webp => Some(ImageType::WebP),
        _ => None,
    }
}

/// Checks the segments up to the image data, one of which declares the dimensions, and that an end marker
/// (`FF D9`) follows. Those bytes have no other meaning within the data. The marker need not be at the end,
/// because cameras append data of their own.
///
/// This does not use `imagesize`, which does not know fill bytes.
fn jpeg_is_complete(image: &[u8]) -> Option<bool> {
    const START_OF_SCAN: u8 = 0xda;
    let mut rest = image.get(2..)?;
    let mut has_size = false;
    loop {
        let (&[marker, kind], segment) = rest.split_first_chunk()?;
        if marker != 0xff {
            return Some(false);
        }
        match kind {
            // Any number of fill bytes may precede a marker (ISO/IEC 10918-1, section B.1.1.2).
            0xff => {
                rest = rest.get(1..)?;
                continue;
            }
            // A frame header, unlike the tables DHT (C4), JPG (C8) and DAC (CC): the height and the width follow
            // the length and the precision.
            0xc0..=0xcf if !matches!(kind, 0xc4 | 0xc8 | 0xcc) => {
                let [height @ .., w1, w0] = *segment.get(3..)?.first_chunk::<4>()?;
                has_size = height != [0, 0] && [w1, w0] != [0, 0];
            }
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes(*segment.first_chunk()?));
        rest = segment.get(length.max(2)..)?;
        if kind == START_OF_SCAN {
            return Some(has_size && rest.windows(2).any(|pair| pair == [0xff, 0xd9]));
        }
    }
}

/// Checks that the chunks from `IHDR` to `IEND` are present.
fn png_is_complete(image: &[u8]) -> Option<bool> {
    let mut rest = image.strip_prefix(PNG_SIGNATURE)?;
    if rest.get(4..8)? != b"IHDR" {
        return Some(false);
    }
    loop {
        let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?;
        let kind = rest.get(4..8)?;
        let next = rest.get(length.checked_add(12)?..)?;
        if kind == b"IEND" {
            return Some(true);
        }
        rest = next;
    }
}

/// Checks that there are as many bytes as the container declares.
fn webp_is_complete(image: &[u8]) -> Option<bool> {
    let declared = usize::try_from(u32::from_le_bytes(*image.get(4..)?.first_chunk()?)).ok()?;
    Some(declared >= 12 && image.len() - 8 >= declared)
}

#[cfg(test)]
pub(crate) mod samples {
    //! The smallest valid pictures.

    /// A grey pixel.
    pub const JPEG: &[u8] = &[
        0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 1, // APP0
        0xff, 0xc0, 0, 11, 8, 0, 1, 0, 1, 1, 1, 0x11, 0, // frame of 1 x 1
        0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x7f, 0xff, 0x00, // scan
        0xff, 0xd9,
    ];

    /// A red pixel.
    pub const PNG: &[u8] = &[
        0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1,
        8, 2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 12, b'I', b'D', b'A', b'T', 8, 0xd7, 0x63, 0xf8,
        0xcf, 0xc0, 0, 0, 3, 1, 1, 0, 0x18, 0xdd, 0x8d, 0xb0, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42,
        0x60, 0x82,
    ];

    /// A white pixel, lossless.
    pub const WEBP: &[u8] = &[
        b'R', b'I', b'F', b'F', 26, 0, 0, 0, b'W', b'E', b'B', b'P', b'V', b'P', b'8', b'L', 13, 0, 0, 0,
        0x2f, 0, 0, 0, 0x10, 7, 0x10, 0x11, 0x11, 0x88, 0x88, 0xfe, 7, 0,
    ];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        samples::{JPEG, PNG, WEBP},
        *,
    };

    const ALL: [(&[u8], ImageType); 3] =
        [(JPEG, ImageType::Jpeg), (PNG, ImageType::Png), (WEBP, ImageType::WebP)];

    #[test]
    fn the_format_is_detected_from_the_content() {
        for (image, format) in ALL {
            assert_eq!(check(image), Ok(format));
        }
    }

    #[test]
    fn a_truncated_picture_is_rejected() {
        for (image, format) in ALL {
            for length in 0..image.len() {
                assert_eq!(check(&image[..length]), Err(ImageError::NotAPicture), "{format:?} {length}");
            }
        }
    }

    #[test]
    fn appended_bytes_are_accepted() {
        for (image, format) in ALL {
            assert_eq!(check(&[image, b"appended".as_slice()].concat()), Ok(format));
        }
    }

    #[test]
    fn fill_bytes_before_markers_are_accepted() {
        let mut image = JPEG[..2].to_vec();
        // The markers of the three segments, and their starts in the sample.
        for (start, end) in [(2, 8), (8, 21), (21, JPEG.len())] {
            image.extend([0xff; 3]);
            image.extend(&JPEG[start..end]);
        }
        assert_eq!(check(&image), Ok(ImageType::Jpeg));
        for length in 0..image.len() {
            assert_eq!(check(&image[..length]), Err(ImageError::NotAPicture), "{length}");
        }
    }

    #[test]
    fn a_jpeg_without_a_frame_or_a_size_is_rejected() {
        let without_frame = [&JPEG[..8], &JPEG[21..]].concat();
        assert_eq!(check(&without_frame), Err(ImageError::NotAPicture));
        for at in [14, 16] {
            let mut image = JPEG.to_vec();
            image[at] = 0;
            assert_eq!(check(&image), Err(ImageError::NotAPicture), "{at}");
        }
    }

    #[test]
    fn other_files_are_rejected() {
        for other in [
            b"".as_slice(),
            b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"<html><script>alert(1)</script></html>",
            b"\x89PNG\r\n\x1a\n",
            b"\x89PNG with something else behind it, long enough to have a size IEND",
            b"\xff\xd8\xff\xd9",
            b"RIFF\xff\xff\xff\xffWEBPVP8L",
        ] {
            assert_eq!(check(other), Err(ImageError::NotAPicture), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_picture_without_a_size_is_rejected() {
        let mut image = PNG.to_vec();
        image[16..20].fill(0);
        assert_eq!(check(&image), Err(ImageError::NotAPicture));
    }

    #[test]
    fn a_picture_may_have_at_most_two_mebibytes() {
        let mut image = PNG.to_vec();
        image.resize(MAX_THUMBNAIL_BYTES, 0);
        assert_eq!(check(&image), Ok(ImageType::Png));
        image.push(0);
        assert_eq!(check(&image), Err(ImageError::TooLarge { bytes: MAX_THUMBNAIL_BYTES + 1 }));
    }

    proptest! {
        /// The check terminates and does not panic, whatever the input is.
        #[test]
        fn checking_any_bytes_terminates_without_a_panic(
            sample in 0usize..3,
            kept in 0usize..80,
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut image = ALL[sample].0.to_vec();
            image.truncate(kept);
            image.extend(bytes);
            let _result = check(&image);
        }
    }
}
