from amazon import aws as aws
from launching import launch as launch
