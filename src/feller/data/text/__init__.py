"""Text: how letters become symbols, and files of text examples."""

from feller.data.text.dataset import texts
from feller.data.text.subwords import Subwords
from feller.data.text.text import Text
from feller.data.text.vocabulary import Bytes, Characters, Vocabulary

__all__ = ["Bytes", "Characters", "Subwords", "Text", "Vocabulary", "texts"]
