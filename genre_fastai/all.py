"The working import: `from genre_fastai.all import *` gives fastai's vision names and all of ours; where a name is in both (`download_images`), ours"
import warnings
# torch tells the developers of timm so at every import; a reader of a lesson can do nothing about it
warnings.filterwarnings('ignore', message='`torch.jit.script` is deprecated', category=FutureWarning)
from fastai.vision.all import *
from genre_fastai.core import *
from genre_fastai.pictures import *
from genre_fastai.urls import *
from genre_fastai.download import *
from genre_fastai.catalog import *
from genre_fastai.sample import *
from genre_fastai.report import *
from genre_fastai.cnn import *
from genre_fastai.weights import *
from genre_fastai.pixels import *
from genre_fastai.data import *
from genre_fastai.precision import *
from genre_fastai.frozen import *
from genre_fastai.runs import *
from genre_fastai.learner import *
from genre_fastai.metrics import *
from genre_fastai.leaking import *
from genre_fastai.experiments import *
from genre_fastai.interpret import *
from genre_fastai.gradcam import *
from genre_fastai.clean import *
from genre_fastai.suggest import *
from genre_fastai.proof import *
from genre_fastai.widgets import *
from genre_fastai.inference import *
