"""Names of URL parameters and of session-state values that more than one function knows.

Links that people kept use the URL parameters, so their values stay as they are.
"""

from __future__ import annotations

JOB = "job"
"""Id of the run that the one-run pages show; URL and session state."""
RUNS = "runs"
"""Ids of the compared runs, with commas between them; URL and session state (a list)."""
RACE = "race"
TAB = "tab"
"""The open part of Compare."""
LESSON = "lesson"
STEP = "step"
PRESENT = "present"
"""Whether a lesson is shown to a room: large letters, no menu."""
PART = "part"
TEACHER = "teacher"
MOMENT = "moment"
"""Training step of a snapshot."""

BESIDE = "beside"
"""The second run on Layers."""
MEASURE = "measure"
PAIR_STUDENT, PAIR_TEACHER = "slayer", "tlayer"
"""The pair of layers on Layers."""

LOOK = "look"
"""Attention: a sentence or the kept rows."""
KEPT_ROW = "kept"
SENTENCE, SECOND_SENTENCE = "s", "s2"
LAYER, HEAD, TEACHER_HEAD = "layer", "head", "thead"
HEAD_NUMBER, HEAD_VIEW = "number", "view"
SPECIAL, STRETCH, ROWS, COLUMNS = "special", "stretch", "rows", "columns"

EXAMPLES_TASK, SPLIT = "etask", "esplit"
COMPARED_WITH = "with"
"""The model that the student is compared with on Examples."""
EXAMPLES_ROW = "row"
"""Number of the dev row that is shown in full on Examples."""
CALIBRATION = "calibration"
MATRIX, OUTCOME, GAP = "matrix", "fate", "gap"
OTHER_LABEL, STUDENT_LABEL = "osays", "ssays"

SPEED_TASK, SPEED_AXIS, SPEED_SHARE = "stask", "saxis", "sleast"
SPEED_METRIC, SPEED_COST, SPEED_PLACE = "smetric", "smost", "son"

TEMPERATURE = "T"

DRAFT = "draft"
"""Name of the form that a person fills on Launch; URL and session state."""
ATTENTION_TASK = "attention_for"
"""The task whose sentences are in Attention's boxes; session state."""
SPEED_GROUP = "speed_open"
"""The group of runs whose point was clicked on Speed; session state."""
CLICKED_ROW = "examples_clicked_row"
"""Task and id of the dev row that was clicked on Examples; session state."""
EVERY = "every"
"""Seconds between two drawings of a page that follows a run, or `off`; URL and session state."""
LIVE_CACHE = "live_kept"
LIVE_POINTS = "followed"
