"The working import: `from genre_fastai.all import *` gives fastai's vision names and all of ours."
from fastai.vision.all import *

