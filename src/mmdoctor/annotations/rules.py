"""What MMPose needs of a COCO keypoint file, as rows: one rule, one code.

Every `seen` is what MMPose 1.3.2 with xtcocotools 1.14.3 did with four instances on three images, of which one breaks
the rule: loaded by CocoDataset, judged by CocoMetric with each instance's keypoints, moved by three pixels, as the
predictions. Whole, the same file gives `WHOLE`. tests/real/test_annotations.py runs it again and compares word by word.
What raises, loses or spoils an instance without a word is a *fail*; what is cured, or only looks wrong, a *warn*.
"""

from __future__ import annotations

from typing import Literal

from mmdoctor.model import Value

WHOLE = "4 instances, boxes 1.13 times their keypoints' area, AP 0.876"


class Rule(Value, frozen=True, kw_only=True):
    """`id` is a stable code. `about` names the list whose elements it is held against. `why` says what goes wrong,
    `seen` what MMPose did (see above), `fix` what to do. `derived` says from what `--write-fixed` fills it in, empty
    where that cannot be known from the file."""

    id: str
    about: Literal["file", "images", "categories", "annotations"]
    title: str
    why: str
    seen: str
    status: Literal["fail", "warn"] = "fail"
    fix: str
    derived: str = ""


JSON = Rule(
    id="ANN001",
    about="file",
    title="the file is JSON",
    why="MMPose reads annotations with Python's json, as UTF-8 without a byte order mark.",
    seen="loading raises JSONDecodeError: Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)",
    fix="export the file again; of a compressed one, unpack it",
    derived="a byte order mark is left out",
)
SHAPE = Rule(
    id="ANN002",
    about="file",
    title="images, annotations and categories are lists of objects",
    why="The evaluation asks for all three. A test set without annotations loads only with `bbox_file`, and can be "
    "predicted, not evaluated.",
    seen="4 instances, boxes 1.13 times their keypoints' area, evaluation raises KeyError: 'categories'",
    fix='convert the file to COCO\'s keypoint format; a category is at least {"id": 1, "name": …}',
)
FINITE = Rule(
    id="ANN003",
    about="file",
    title="no number is NaN or infinite",
    why="Python writes them, JSON has none; one such coordinate spoils the instance's loss and its OKS.",
    seen="4 instances, boxes nan times their keypoints' area, AP 0.653",
    fix="set such keypoints to 0, 0, 0 (not labelled), and give such boxes anew",
)
IMAGE_FIELDS = Rule(
    id="ANN010",
    about="images",
    title="images have id, file_name, width and height",
    why="The loader takes all four of every image that has an annotation, and file_name as a text.",
    seen="loading raises KeyError: 'width'",
    fix="add the missing fields; width and height stand in the image files",
)
IMAGE_IDS = Rule(
    id="ANN011",
    about="images",
    title="image ids are whole numbers",
    why="The loader computes `id % sample_interval`: a text raises, and a fraction is passed over.",
    seen="loading raises TypeError: not all arguments converted during string formatting",
    fix="number the images, and the annotations' image_id with them",
)
IMAGE_UNIQUE = Rule(
    id="ANN012",
    about="images",
    title="each image id stands once",
    why="Of two images with one id the later replaces the first, and takes its annotations.",
    seen="3 instances, boxes 0.861 times their keypoints' area, AP 0.620",
    fix="number the images anew, and the annotations' image_id with them (merged files often share ids)",
)
IMAGE_SIZE = Rule(
    id="ANN013",
    about="images",
    title="width and height are positive whole numbers",
    why="Boxes are cut to the image; nothing is left of them in one without a size, and the instances are passed over.",
    seen="2 instances, boxes 1.14 times their keypoints' area, AP 0.392",
    fix="take width and height from the image files",
)
IMAGE_PATH = Rule(
    id="ANN014",
    about="images",
    title="file names are relative, with /",
    status="warn",
    why="An absolute name ignores `data_prefix`, so the file works on one machine only; a backslash is a part of the "
    "name on Linux.",
    seen="4 instances, boxes 1.13 times their keypoints' area, images from /data/1.jpg, AP 0.876",
    fix="write file_name relative to the folder of images, with /",
)
IMAGE_NAMES = Rule(
    id="ANN015",
    about="images",
    title="each file name stands once",
    status="warn",
    why="An image that is listed twice is loaded twice, each time with a part of its instances; top-down training "
    "takes no harm, bottom-up training takes the others as background.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.876",
    fix="merge the two images into one id",
)
IMAGE_SWAPPED = Rule(
    id="ANN016",
    about="images",
    title="width and height are not exchanged",
    status="warn",
    why="There are instances outside the image as it is described, and inside with width and height exchanged (often "
    "the camera's orientation in EXIF); boxes are cut at the wrong side.",
    seen="4 instances, boxes 1.07 times their keypoints' area, AP 0.876",
    fix="compare width and height with the image files as your reader turns them",
)
CATEGORY_IDS = Rule(
    id="ANN020",
    about="categories",
    title="categories have ids, each once",
    why="The index of categories is built from them.",
    seen="loading raises KeyError: 'id'",
    fix="give each category its id, the annotations' category_id",
)
CATEGORY_KEYPOINTS = Rule(
    id="ANN021",
    about="categories",
    title="categories name their keypoints",
    status="warn",
    why="MMPose takes names and number from its config's metainfo, so it works; but nothing then tells whether this "
    "file fits that config.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.876",
    fix='add the names to the category, in the order of the annotations: "keypoints": ["nose", …]',
)
CATEGORY_SKELETON = Rule(
    id="ANN022",
    about="categories",
    title="skeletons are pairs of keypoint numbers from 1 up",
    status="warn",
    why="COCO counts keypoints from 1 there. Only COCO's own drawing uses it; MMPose draws its metainfo's.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.876",
    fix="count from 1, up to the number of keypoints",
)
CATEGORY_COUNTS = Rule(
    id="ANN023",
    about="categories",
    title="all categories have the same number of keypoints",
    why="A dataset of MMPose has one set of keypoints, and one sigma for each.",
    seen="4 instances, boxes 2.14 times their keypoints' area, evaluation raises IndexError: index 5 is out "
    "of bounds for axis 0 with size 5",
    fix="make one file per number of keypoints, and combine the datasets in the config (CombinedDataset, "
    "KeypointConverter)",
)
FIELDS = Rule(
    id="ANN030",
    about="annotations",
    title="annotations have id, image_id and category_id",
    why="The index is built from them before anything else.",
    seen="loading raises KeyError: 'id'",
    fix="add what is missing",
    derived="id: the next number that is free; category_id: where there is one category alone",
)
IDS = Rule(
    id="ANN031",
    about="annotations",
    title="annotation ids are whole numbers from 0 up",
    why="The evaluation writes them into an array of 64-bit integers, in which -1 says that nothing matched.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.554",
    fix="number the annotations",
)
UNIQUE = Rule(
    id="ANN032",
    about="annotations",
    title="each annotation id stands once",
    why="Of two annotations with one id the later replaces the first, also on another image.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.653",
    fix="number the annotations anew (merged files often share ids)",
)
IMAGE_KNOWN = Rule(
    id="ANN033",
    about="annotations",
    title="annotations point to an image of the file",
    why="The loader goes from the images to their annotations: one that no image has is never loaded, without a word. "
    'The id 1 and the text "1" are two.',
    seen="3 instances, boxes 1.14 times their keypoints' area, AP 0.866",
    fix="add the images, or remove their annotations",
)
CATEGORY_KNOWN = Rule(
    id="ANN034",
    about="annotations",
    title="annotations point to a category of the file",
    why="It is trained, but the evaluation goes through the categories: such an instance is left out without a word.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.866",
    fix="add the category, or correct category_id",
)
BOX = Rule(
    id="ANN040",
    about="annotations",
    title="annotations have a bbox",
    why="The loader passes over an instance without one, and the evaluation raises.",
    seen="3 instances, boxes 1.14 times their keypoints' area, evaluation raises KeyError: 'bbox'",
    fix="add the boxes: [x, y, width, height]",
    derived="the smallest box around the labelled keypoints",
)
BOX_FORM = Rule(
    id="ANN041",
    about="annotations",
    title="a bbox is four numbers: x, y, width, height, the last two positive",
    why="Other lengths raise; one without width or height is passed over.",
    seen="3 instances, boxes 1.14 times their keypoints' area, AP 0.653",
    fix="correct the boxes: x, y is the upper left corner, in pixels",
)
BOX_OUTSIDE = Rule(
    id="ANN042",
    about="annotations",
    title="boxes reach into their image",
    why="Boxes are cut to the image; of these nothing is left, and the instances are passed over.",
    seen="3 instances, boxes 1.14 times their keypoints' area, AP 0.653",
    fix="correct the boxes, or the images' width and height",
)
BOX_INSIDE = Rule(
    id="ANN043",
    about="annotations",
    title="boxes lie in their image",
    status="warn",
    why="Boxes are cut to the image, so the crop is not the one that was annotated.",
    seen="4 instances, boxes 1.19 times their keypoints' area, AP 0.876",
    fix="cut the boxes to the image, or correct its width and height",
)
BOX_CORNERS = Rule(
    id="ANN044",
    about="annotations",
    title="boxes are not given as two corners",
    why="Read as [x1, y1, x2, y2] nearly all boxes lie in their image and hold their keypoints, read as "
    "[x, y, width, height] many leave it. Every crop is then too large.",
    seen="4 instances, boxes 2.59 times their keypoints' area, AP 0.876",
    fix="write [x1, y1, x2 - x1, y2 - y1]",
)
AREA = Rule(
    id="ANN045",
    about="annotations",
    title="annotations have an area",
    why="OKS, and with it AP, divides by it. CocoMetric(use_area=False) takes 0.53 · w · h of the box instead.",
    seen="4 instances, boxes 1.13 times their keypoints' area, evaluation raises KeyError: 'area'",
    fix="add the areas, or evaluate with use_area=False",
    derived="w · h of the box; COCO's areas are those of the outline, for which MMPose reckons 0.53 of the box, so AP "
    "comes out higher",
)
AREA_POSITIVE = Rule(
    id="ANN046",
    about="annotations",
    title="areas are positive numbers",
    why="With an area of 0 no prediction is near enough.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.554",
    fix="remove these areas and let --write-fixed add w · h of the box, or evaluate with use_area=False",
)
CROWD = Rule(
    id="ANN047",
    about="annotations",
    title="annotations have iscrowd",
    status="warn",
    why="xtcocotools takes a missing one as 0; pycocotools, and other tools that read COCO, do not.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.876",
    fix='add "iscrowd": 0',
    derived="0, as xtcocotools takes it",
)
CROWD_VALUE = Rule(
    id="ANN048",
    about="annotations",
    title="iscrowd is 0 or 1",
    why='Whatever counts as true in Python, a "0" in quotes too, is a crowd: never trained. A null raises.',
    seen="3 instances, boxes 1.14 times their keypoints' area, AP 0.866",
    fix="write 0 for a single instance, 1 for a crowd",
    derived="0 where it is null",
)
KEYPOINTS = Rule(
    id="ANN050",
    about="annotations",
    title="annotations have keypoints",
    why="The loader passes over an instance without them, and the evaluation raises.",
    seen="3 instances, boxes 1.14 times their keypoints' area, evaluation raises KeyError: 'keypoints'",
    fix='remove these annotations from the keypoint file, or give them keypoints of 0, 0, 0 with "iscrowd": 1',
)
KEYPOINTS_FORM = Rule(
    id="ANN051",
    about="annotations",
    title="keypoints are x, y, visibility for each keypoint of the category",
    why="A flat list of numbers, three for each keypoint, those that are not labelled as 0, 0, 0.",
    seen="4 instances, boxes 1.15 times their keypoints' area, evaluation raises IndexError: index 16 is out "
    "of bounds for axis 0 with size 16",
    fix="bring the lists to three times the number of keypoints",
)
VISIBILITY = Rule(
    id="ANN052",
    about="annotations",
    title="visibility is 0, 1 or 2",
    status="warn",
    why="0 is not labelled, 1 labelled and hidden, 2 visible. Above 1 all is the same to MMPose; a fraction or a "
    "negative number becomes the keypoint's weight in the loss.",
    seen="4 instances, boxes 1.13 times their keypoints' area, weights -1, AP 0.907",
    fix="translate your labels to 0, 1, 2",
)
KEYPOINTS_INSIDE = Rule(
    id="ANN053",
    about="annotations",
    title="labelled keypoints lie in their image",
    status="warn",
    why="They are trained as they are, on what lies outside the image.",
    seen="4 instances, boxes 1.01 times their keypoints' area, AP 0.876",
    fix="correct them, or mark them as not labelled (0, 0, 0)",
)
PIXELS = Rule(
    id="ANN054",
    about="annotations",
    title="coordinates are in pixels",
    why="All keypoints of the file lie between 0 and 1, as YOLO and others write them: parts of the image's size.",
    seen="4 instances, boxes 3.48e+05 times their keypoints' area, AP 0.653",
    fix="multiply x by the image's width and y by its height",
)
COUNT = Rule(
    id="ANN055",
    about="annotations",
    title="annotations have num_keypoints",
    status="warn",
    why="MMPose then counts those that are not at 0, 0; the evaluation of CrowdPose (iou_type keypoints_crowd) raises.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.876",
    fix="add the number of labelled keypoints",
    derived="the number of keypoints with a visibility above 0",
)
COUNT_ZERO = Rule(
    id="ANN056",
    about="annotations",
    title="num_keypoints is not 0 where keypoints are labelled",
    why="The loader passes over an instance whose num_keypoints is 0, without a word, and the evaluation counts it.",
    seen="3 instances, boxes 1.14 times their keypoints' area, AP 0.653",
    fix="remove these num_keypoints and let --write-fixed count",
)
COUNT_RIGHT = Rule(
    id="ANN057",
    about="annotations",
    title="num_keypoints is the number of labelled keypoints",
    status="warn",
    why="MMPose only asks whether it is 0. CrowdPose counts the visible ones alone (2), and that is taken as right.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.876",
    fix="remove these num_keypoints and let --write-fixed count",
)
SEGMENTATION = Rule(
    id="ANN058",
    about="annotations",
    title="segmentations are polygons or RLE",
    status="warn",
    why="Bottom-up training masks crowds and instances without keypoints with it; top-down never looks at it.",
    seen="4 instances, boxes 1.13 times their keypoints' area, AP 0.876",
    fix='write a list of polygons or {"counts": …, "size": [height, width]}, or leave it out',
)

RULES = (
    JSON,
    SHAPE,
    FINITE,
    IMAGE_FIELDS,
    IMAGE_IDS,
    IMAGE_UNIQUE,
    IMAGE_SIZE,
    IMAGE_PATH,
    IMAGE_NAMES,
    IMAGE_SWAPPED,
    CATEGORY_IDS,
    CATEGORY_KEYPOINTS,
    CATEGORY_SKELETON,
    CATEGORY_COUNTS,
    FIELDS,
    IDS,
    UNIQUE,
    IMAGE_KNOWN,
    CATEGORY_KNOWN,
    BOX,
    BOX_FORM,
    BOX_OUTSIDE,
    BOX_INSIDE,
    BOX_CORNERS,
    AREA,
    AREA_POSITIVE,
    CROWD,
    CROWD_VALUE,
    KEYPOINTS,
    KEYPOINTS_FORM,
    VISIBILITY,
    KEYPOINTS_INSIDE,
    PIXELS,
    COUNT,
    COUNT_ZERO,
    COUNT_RIGHT,
    SEGMENTATION,
)
