from amazon import aws as aws
