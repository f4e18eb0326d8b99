//! Scaling a picture: real work, that keeps a processor busy for as long as it takes.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits, Rgba, RgbaImage};

/// The most pixels that a side may have, of the picture and of the result.
pub const LONGEST_SIDE: u32 = 4096;

/// A scaled picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaled {
    /// The picture, as a PNG file.
    pub png: Vec<u8>,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// Why a picture was not scaled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotScaled {
    /// It is no PNG or JPEG, or too large.
    #[error("cannot read the picture: {0}")]
    Unreadable(String),
    /// The result would have no pixels, or too many.
    #[error("a side of the result has 1 to {LONGEST_SIDE} pixels")]
    BadSize,
    /// Whoever was told of the progress wanted no more of it.
    #[error("stopped on the way")]
    Stopped,
}

/// Scales a PNG or JPEG file to a width and a height; without a height it keeps its proportions. Each
/// pixel of the result is the mean of those it covers.
///
/// Blocks the thread until it is done, which may take seconds. Calls `told` with the progress in percent,
/// row by row, and stops once that returns false.
///
/// # Errors
/// [`NotScaled`] says why.
pub fn scale(
    file: &[u8],
    width: u32,
    height: Option<u32>,
    mut told: impl FnMut(u8) -> bool,
) -> Result<Scaled, NotScaled> {
    let picture = read(file)?;
    let height = height.unwrap_or_else(|| in_proportion(&picture, width));
    if !(1..=LONGEST_SIDE).contains(&width) || !(1..=LONGEST_SIDE).contains(&height) {
        return Err(NotScaled::BadSize);
    }
    let mut scaled = RgbaImage::new(width, height);
    for y in 0..height {
        for x in 0..width {
            scaled.put_pixel(x, y, mean(&picture, x, y, width, height));
        }
        // Writing the file is the rest.
        let percent = u64::from(y + 1) * 95 / u64::from(height);
        if !told(u8::try_from(percent).unwrap_or(95)) {
            return Err(NotScaled::Stopped);
        }
    }
    let mut png = Cursor::new(Vec::new());
    scaled
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| NotScaled::Unreadable(error.to_string()))?;
    Ok(Scaled {
        png: png.into_inner(),
        width,
        height,
    })
}

fn read(file: &[u8]) -> Result<RgbaImage, NotScaled> {
    let unreadable = |error: &dyn std::fmt::Display| NotScaled::Unreadable(error.to_string());
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| unreadable(&error))?;
    // A small file can say that it holds a picture of any size.
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(u64::from(LONGEST_SIDE) * u64::from(LONGEST_SIDE) * 8);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| unreadable(&error))?;
    Ok(picture.into_rgba8())
}

fn in_proportion(picture: &RgbaImage, width: u32) -> u32 {
    let height = u64::from(picture.height()) * u64::from(width) / u64::from(picture.width().max(1));
    u32::try_from(height.max(1)).unwrap_or(u32::MAX)
}

/// The mean of the pixels that one pixel of the result covers, at least one.
fn mean(picture: &RgbaImage, x: u32, y: u32, width: u32, height: u32) -> Rgba<u8> {
    let (left, right) = span(x, width, picture.width());
    let (top, bottom) = span(y, height, picture.height());
    let mut sums = [0_u64; 4];
    for row in top..bottom {
        for column in left..right {
            let pixel = picture.get_pixel(column, row);
            for (sum, part) in sums.iter_mut().zip(pixel.0) {
                *sum += u64::from(part);
            }
        }
    }
    let count = u64::from(right - left) * u64::from(bottom - top);
    Rgba(sums.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX)))
}

/// Which of `all` pixels the pixel `at` of `wanted` covers.
fn span(at: u32, wanted: u32, all: u32) -> (u32, u32) {
    let edge = |at: u32| (u64::from(at) * u64::from(all) / u64::from(wanted)) as u32;
    let begin = edge(at).min(all - 1);
    (begin, edge(at + 1).clamp(begin + 1, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(width: u32, height: u32) -> Vec<u8> {
        let picture = RgbaImage::from_fn(width, height, |x, _| {
            Rgba(if x < width / 2 {
                [255, 0, 0, 255]
            } else {
                [0, 0, 255, 255]
            })
        });
        let mut png = Cursor::new(Vec::new());
        picture
            .write_to(&mut png, ImageFormat::Png)
            .expect("a file");
        png.into_inner()
    }

    #[test]
    fn halves_stay_halves() {
        let mut percents = Vec::new();
        let scaled = scale(&file(40, 20), 4, None, |percent| {
            percents.push(percent);
            true
        })
        .expect("scaled");
        assert_eq!((scaled.width, scaled.height), (4, 2));
        let picture = image::load_from_memory(&scaled.png)
            .expect("a picture")
            .into_rgba8();
        assert_eq!(picture.get_pixel(1, 0), &Rgba([255, 0, 0, 255]));
        assert_eq!(picture.get_pixel(2, 1), &Rgba([0, 0, 255, 255]));
        assert_eq!(percents, [47, 95]);
    }

    #[test]
    fn what_cannot_be_scaled_is_refused() {
        assert!(matches!(
            scale(b"no picture", 4, None, |_| true),
            Err(NotScaled::Unreadable(_))
        ));
        assert_eq!(
            scale(&file(4, 4), 0, None, |_| true),
            Err(NotScaled::BadSize)
        );
        assert_eq!(
            scale(&file(4, 4), 4, None, |_| false),
            Err(NotScaled::Stopped)
        );
    }
}
