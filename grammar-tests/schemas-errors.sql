a

a INT b INT

(a INT)

a INT KEY KEY

a INT;
